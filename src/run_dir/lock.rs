//! The lock of a run directory: only one process at a time trains in it.

use super::RunDir;
use crate::error::{Error, Hint, Result};
use crate::files::create_dir;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::time::Duration;

/// ENOLCK: the error of a network file system whose server doesn't support locks.
const NO_LOCKS: Option<i32> = if cfg!(target_os = "linux") { Some(37) } else { Some(77) };

/// The lock held while a run is trained. The system releases it when the process ends, however it
/// ends, so that no stale lock remains.
pub struct Lock {
    _file: File,
}

impl RunDir {
    /// Locks the directory for this process; creates it where it doesn't exist yet.
    ///
    /// # Errors
    /// If another process holds the lock, or the lock file can't be written.
    pub fn lock(&self) -> Result<Lock> {
        create_dir(&self.path)?;
        let path = self.path.join("lock");
        let failed = |e: &std::io::Error| Error::io("write", &path, e);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|e| failed(&e))?;
        let mut locked = file.try_lock();
        if let Err(TryLockError::WouldBlock) = locked {
            // It may only be a query (see `trained_by`), which is over in a moment.
            std::thread::sleep(Duration::from_millis(50));
            locked = file.try_lock();
        }
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::usage(format!(
                    "{} is being trained by {}; wait for it, stop it, or {}",
                    self.path.display(),
                    holder(file),
                    Hint::OtherRun
                )));
            }
            // Some network file systems have no locks; that is no reason not to train there.
            Err(TryLockError::Error(e))
                if e.kind() == std::io::ErrorKind::Unsupported || NO_LOCKS == e.raw_os_error() => {}
            Err(TryLockError::Error(e)) => return Err(failed(&e)),
        }
        // The contents are for people only; on a full disk the file stays empty.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id()));
        Ok(Lock { _file: file })
    }

    /// Returns the process that trains here at the moment (`process 4711`), if any, without writing
    /// anything. On file systems without locks the result is always `None`.
    pub fn trained_by(&self) -> Option<String> {
        let path = self.path.join("lock");
        // Opening a pipe would block.
        let file = std::fs::metadata(&path).ok()?.is_file().then(|| File::open(&path).ok())??;
        // Shared, so that any number of processes can query at a time; closing the file releases
        // it.
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| holder(file))
    }
}

/// Reads the name of the lock's holder from the locked file.
fn holder(mut file: File) -> String {
    let mut holder = String::new();
    // Some systems don't allow reading a locked file.
    let _ = file.read_to_string(&mut holder);
    Some(holder.trim()).filter(|h| !h.is_empty()).unwrap_or("another process").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_releases_the_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::new(folder.path().join("run"));
        assert!(run.trained_by().is_none() && !run.path.exists(), "a query creates nothing");
        let first = run.lock().expect("free");
        assert_eq!(run.trained_by(), Some(format!("process {}", std::process::id())));
        let message = run.lock().err().expect("taken").to_string();
        assert!(
            message.contains(&format!("process {}", std::process::id()))
                && message.contains("another run directory"),
            "{message}"
        );
        drop(first);
        // A file left by a killed process is not a lock.
        assert!(run.path.join("lock").exists() && run.trained_by().is_none());
        run.lock().expect("free again");
    }
}
