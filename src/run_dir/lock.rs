//! One process at a time trains in a run directory.

use super::RunDir;
use crate::error::{Error, Result};
use crate::files::create_dir;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::time::Duration;

/// ENOLCK: what a network file system says whose server knows no locks.
const NO_LOCKS: Option<i32> = if cfg!(target_os = "linux") { Some(37) } else { Some(77) };

/// Held while a run is trained. The system lets go of it when the process ends, however it ends:
/// nothing stale is left.
pub struct Lock {
    _file: File,
}

impl RunDir {
    /// Takes the directory for this process; makes it where it isn't there yet.
    ///
    /// # Errors
    /// If another process has it, or the lock file can't be written.
    pub fn lock(&self) -> Result<Lock> {
        create_dir(&self.path)?;
        let path = self.path.join("lock");
        let failed = |e: &std::io::Error| Error::io("write", &path, e);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|e| failed(&e))?;
        let mut locked = file.try_lock();
        if let Err(TryLockError::WouldBlock) = locked {
            // It may only be asked for, see `trained_by`: that is over in a moment.
            std::thread::sleep(Duration::from_millis(50));
            locked = file.try_lock();
        }
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::usage(format!(
                    "{} is being trained by {}; wait for it, stop it, or choose another --run",
                    self.path.display(),
                    holder(file)
                )));
            }
            // Some network file systems know no locks: no reason not to train there.
            Err(TryLockError::Error(e))
                if e.kind() == std::io::ErrorKind::Unsupported || NO_LOCKS == e.raw_os_error() => {}
            Err(TryLockError::Error(e)) => return Err(failed(&e)),
        }
        // What it says is for people; on a full disk it stays empty.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id()));
        Ok(Lock { _file: file })
    }

    /// Who trains here at this moment (`process 4711`); nothing is written. On file systems without
    /// locks nobody is seen.
    pub fn trained_by(&self) -> Option<String> {
        let path = self.path.join("lock");
        // To open a pipe is to wait.
        let file = std::fs::metadata(&path).ok()?.is_file().then(|| File::open(&path).ok())??;
        // Shared: any number of processes may ask at a time. What it takes is let go with the file.
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| holder(file))
    }
}

/// What a locked file says of its holder.
fn holder(mut file: File) -> String {
    let mut holder = String::new();
    // Some systems let nobody read what is locked.
    let _ = file.read_to_string(&mut holder);
    Some(holder.trim()).filter(|h| !h.is_empty()).unwrap_or("another process").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_by_name_until_the_first_lets_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::new(folder.path().join("run"));
        assert!(run.trained_by().is_none() && !run.path.exists(), "to ask makes nothing");
        let first = run.lock().expect("free");
        assert_eq!(run.trained_by(), Some(format!("process {}", std::process::id())));
        let message = run.lock().err().expect("taken").to_string();
        assert!(
            message.contains(&format!("process {}", std::process::id()))
                && message.contains("--run"),
            "{message}"
        );
        drop(first);
        // A file that a killed process left is no lock.
        assert!(run.path.join("lock").exists() && run.trained_by().is_none());
        run.lock().expect("free again");
    }
}
