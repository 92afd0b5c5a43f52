//! Detection of ranks that die.
//!
//! MPI waits for ever for a rank that has died, until its launcher ends the rest without giving a
//! reason. So every rank holds a TCP connection to rank 0, which the system closes however a
//! process ends. Only rank 0 reports what has happened, in one sentence; if it is the one that
//! died, rank 1 reports. A machine that vanishes from the network closes no connection; that case
//! is left to the launcher.

use super::Ranks;
use crate::error::{Error, Result};
use crate::progress::{self, warn};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The last message of a rank: that it is done, or that it has failed, followed by the error.
const DONE: u8 = b'd';
const FAILED: u8 = b'f';
/// The time limits for all ranks to connect, and for a connection to identify itself.
const PATIENCE: Duration = Duration::from_secs(20);
const HELLO: Duration = Duration::from_secs(1);
/// The time limit for work that can't be interrupted once another rank is gone.
const BUSY: Duration = Duration::from_secs(8);

/// The address at which rank 0 listens.
#[derive(Serialize, Deserialize)]
struct Meeting {
    host: String,
    port: u16,
    /// The random secret by which the ranks of this run are recognised.
    word: u64,
}

/// What this process knows about the others.
struct Watch {
    rank: usize,
    /// "rank 1 of 2 (node3)", by rank.
    names: Vec<String>,
    /// The command that resumes the work; empty while unknown.
    resume: Mutex<String>,
    /// The connection to rank 0, or those of rank 0 to the others.
    others: Mutex<Vec<TcpStream>>,
    /// Tells whether this process is doing something that should be completed.
    busy: fn() -> bool,
}

/// How a rank ended.
enum How {
    /// Without a message.
    Silently,
    /// With this error.
    With(String),
}

static WATCH: OnceLock<Watch> = OnceLock::new();
/// Whether the failure has been reported; locked while it is being reported.
static TOLD: Mutex<bool> = Mutex::new(false);
/// Whether this process is done.
static LEFT: AtomicBool = AtomicBool::new(false);

/// Starts watching all ranks. When one of them fails, all processes end, with a one-sentence
/// message; a process that is `busy` first gets some seconds to finish.
///
/// # Errors
/// If the communication thread is gone.
pub fn begin(ranks: &Ranks, busy: fn() -> bool) -> Result<()> {
    let (rank, size) = (ranks.rank(), ranks.size());
    let hosts = ranks.gather(ranks.place().host.clone().into_bytes())?;
    let hosts: Vec<String> =
        hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned()).collect();
    let names = hosts
        .iter()
        .enumerate()
        .map(|(rank, host)| format!("rank {rank} of {size} ({host})"))
        .collect();
    // With all ranks on one machine, connections from other machines aren't accepted.
    let address = if hosts.iter().all(|host| *host == hosts[0]) { "127.0.0.1" } else { "0.0.0.0" };
    let listener = if rank == 0 { TcpListener::bind((address, 0)).ok() } else { None };
    let meeting = listener.as_ref().and_then(|listener| {
        let port = listener.local_addr().ok()?.port();
        Some(Meeting { host: hosts[0].clone(), port, word: rand::random() })
    });
    let told =
        ranks.broadcast((rank == 0).then(|| serde_json::to_vec(&meeting).unwrap_or_default()))?;
    let meeting: Option<Meeting> = serde_json::from_slice(&told).ok().flatten();
    let watch = WATCH.get_or_init(|| Watch {
        rank,
        names,
        resume: Mutex::default(),
        others: Mutex::default(),
        busy,
    });
    let met = meeting.map_or(Vec::new(), |meeting| match listener {
        Some(listener) => accept(&listener, size, meeting.word),
        None => connect(&meeting, rank, hosts[rank] == meeting.host),
    });
    let all = ranks.gather(vec![u8::from(rank == 0 || !met.is_empty())])?;
    let lonely = all.iter().position(|met| met == &[0]);
    if let (0, Some(lonely)) = (rank, lonely) {
        let name = &watch.names[lonely];
        warn(&format!(
            "warning: {name} can't reach rank 0 by TCP: if a rank dies, only the launcher will \
             notice"
        ));
    }
    if lonely.is_some() {
        return Ok(());
    }
    for (other, stream) in met {
        let Ok(copy) = stream.try_clone() else { continue };
        watch.others.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
        // Without this thread, only the launcher notices.
        let _ = std::thread::Builder::new()
            .name("ranks".into())
            .spawn(move || listen(watch, other, stream));
    }
    Ok(())
}

/// Accepts the connections of the other ranks; returns those made in time, each with its rank.
fn accept(listener: &TcpListener, size: usize, word: u64) -> Vec<(usize, TcpStream)> {
    let began = Instant::now();
    let mut met: Vec<(usize, TcpStream)> = Vec::new();
    if listener.set_nonblocking(true).is_err() {
        return met;
    }
    while met.len() + 1 < size && began.elapsed() < PATIENCE {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let mut hello = [0; 16];
        let heard =
            stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(HELLO)));
        let heard = heard
            .and_then(|()| stream.read_exact(&mut hello))
            .and_then(|()| stream.set_read_timeout(None));
        let ([own, rank], []) = hello.as_chunks::<8>().0.split_at(2) else { continue };
        let rank = u64::from_le_bytes(*rank) as usize;
        let known = met.iter().any(|(other, _)| *other == rank);
        if heard.is_ok() && u64::from_le_bytes(*own) == word && (1..size).contains(&rank) && !known
        {
            met.push((rank, stream));
        }
    }
    met
}

/// Connects to rank 0, if possible.
fn connect(meeting: &Meeting, rank: usize, same_machine: bool) -> Vec<(usize, TcpStream)> {
    let host = if same_machine { "127.0.0.1" } else { &meeting.host };
    let found = (host, meeting.port).to_socket_addrs().into_iter().flatten();
    let Some(mut stream) = found
        .into_iter()
        .find_map(|address| TcpStream::connect_timeout(&address, PATIENCE / 4).ok())
    else {
        return Vec::new();
    };
    let hello = [meeting.word.to_le_bytes(), (rank as u64).to_le_bytes()].concat();
    if stream.write_all(&hello).is_ok() { vec![(0, stream)] } else { Vec::new() }
}

/// Waits for the last message of rank `other`.
fn listen(watch: &Watch, other: usize, mut stream: TcpStream) {
    let mut said = Vec::new();
    // A broken connection counts as a closed one.
    let _ = stream.read_to_end(&mut said);
    let how = match said.split_first() {
        Some((&DONE, _)) => return,
        Some((&FAILED, how)) => How::With(String::from_utf8_lossy(how).into_owned()),
        _ => How::Silently,
    };
    // Once rank 0 is done, it no longer watches the others.
    if watch.rank == 0 && LEFT.load(SeqCst) {
        return;
    }
    // Rank 0 reports its own error. If it couldn't, rank 1 reports.
    if watch.rank == 0 || (watch.rank == 1 && matches!(how, How::Silently)) {
        watch.conclude(other, &how);
    }
    let clock = Instant::now();
    while (watch.busy)() && clock.elapsed() < BUSY {
        std::thread::sleep(Duration::from_millis(50));
    }
    // Not exit(), in which MPI or a driver could wait for ranks that are gone.
    signal_hook::low_level::exit(1);
}

impl Watch {
    /// Reports the failure, once, then tells the others that it was reported.
    fn conclude(&self, rank: usize, how: &How) {
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *told, true) {
            return;
        }
        let (name, resume) =
            (&self.names[rank], self.resume.lock().unwrap_or_else(PoisonError::into_inner));
        let how = match how {
            How::Silently => " ended without an error message: killed, or out of memory".to_owned(),
            How::With(why) => format!(": {why}"),
        };
        let go_on = if resume.is_empty() || how.contains(resume.as_str()) {
            String::new()
        } else {
            format!("; resume with `{resume}`")
        };
        progress::fail(&format!("{name}{how}{go_on}"));
        self.send(&[FAILED]);
    }

    fn send(&self, bytes: &[u8]) {
        for stream in self.others.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            // Ranks that are gone are ignored.
            let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        }
    }
}

/// Returns whether this process is one of several that watch each other.
pub fn is_on() -> bool {
    WATCH.get().is_some()
}

/// Sets the command that resumes the work, for the message if a rank fails.
pub fn set_resume(command: String) {
    if let Some(watch) = WATCH.get() {
        *watch.resume.lock().unwrap_or_else(PoisonError::into_inner) = command;
    }
}

/// Reports, for all ranks, that this one fails with `error`. Returns whether that was done, so that
/// the caller need not report it.
pub fn fail(error: &Error) -> bool {
    let Some(watch) = WATCH.get() else { return false };
    if watch.rank == 0 {
        // Once rank 0 is done, its errors don't concern the others.
        let concerned = !LEFT.load(SeqCst);
        if concerned {
            watch.conclude(0, &How::With(error.to_string()));
        }
        return concerned;
    }
    watch.send(&[&[FAILED], error.to_string().as_bytes()].concat());
    let heard = !watch.others.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
    if heard {
        // Rank 0 reports the error and ends, which ends this process.
        std::thread::sleep(Duration::from_secs(1));
    }
    heard
}

/// Marks this rank as done. The ranks that aren't done still watch each other.
pub fn end() {
    if let Some(watch) = WATCH.get() {
        LEFT.store(true, SeqCst);
        watch.send(&[DONE]);
    }
}
