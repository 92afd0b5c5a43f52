//! What tells the ranks that one of them is gone.
//!
//! MPI waits for ever for a rank that has died, until its launcher ends the rest, which doesn't say why. So every rank holds a TCP
//! connection to rank 0, which the system closes however a process ends. Rank 0 alone says what has happened, in one sentence; should it
//! be the one that died, rank 1 does.

use super::Ranks;
use crate::error::{Error, Result};
use crate::progress::warn;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What a rank says last: that all is done, or that it has failed, and then how.
const DONE: u8 = b'd';
const FAILED: u8 = b'f';
/// How long ranks may take to connect.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where rank 0 listens.
#[derive(Serialize, Deserialize)]
struct Meeting {
    host: String,
    port: u16,
    /// Who knows it is a rank of this run.
    word: u64,
}

/// What this process knows of the others.
struct Watch {
    rank: usize,
    /// "rank 1 of 2 (node3)", by rank.
    names: Vec<String>,
    /// What goes on with the work.
    resume: String,
    /// To rank 0, or from it to the others.
    others: Mutex<Vec<TcpStream>>,
}

static WATCH: OnceLock<Watch> = OnceLock::new();
/// Whether somebody has begun to say how this ends.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Watches over all ranks from now on. Where one of them fails, all processes end, with one sentence that ends in the command `resume`
/// (rank 0's counts).
///
/// # Errors
/// If the thread that sends is gone.
pub fn begin(ranks: &Ranks, resume: String) -> Result<()> {
    let (rank, size) = (ranks.rank(), ranks.size());
    let hosts = ranks.gather(ranks.place().host.clone().into_bytes())?;
    let hosts: Vec<String> = hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned()).collect();
    let names = hosts.iter().enumerate().map(|(rank, host)| format!("rank {rank} of {size} ({host})")).collect();
    let listener = (rank == 0).then(|| TcpListener::bind(("0.0.0.0", 0))).and_then(std::result::Result::ok);
    let meeting = listener.as_ref().and_then(|listener| {
        let port = listener.local_addr().ok()?.port();
        Some(Meeting { host: hosts[0].clone(), port, word: rand::random() })
    });
    let resume = ranks.broadcast((rank == 0).then(|| resume.into_bytes()))?;
    let resume = String::from_utf8_lossy(&resume).into_owned();
    let told = ranks.broadcast((rank == 0).then(|| serde_json::to_vec(&meeting).unwrap_or_default()))?;
    let meeting: Option<Meeting> = serde_json::from_slice(&told).ok().flatten();
    let watch = Watch { rank, names, resume, others: Mutex::default() };
    let watch = WATCH.get_or_init(|| watch);
    let met = meeting.and_then(|meeting| match listener {
        Some(listener) => accept(&listener, size - 1, meeting.word),
        None => connect(&meeting, rank, hosts[rank] == meeting.host),
    });
    let all = ranks.gather(vec![u8::from(met.is_some())])?;
    if let (0, Some(lonely)) = (rank, all.iter().position(|met| met == &[0])) {
        warn(&format!(
            "{} can't be reached by TCP: should a rank die, {} alone notices",
            watch.names[lonely.max(1)],
            super::launcher().split(' ').next().unwrap_or("the launcher")
        ));
    }
    if all.iter().any(|met| met == &[0]) {
        return Ok(());
    }
    for (other, stream) in met.into_iter().flatten() {
        let (Ok(copy), name) = (stream.try_clone(), "ranks".to_owned()) else { continue };
        watch.others.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
        // Without a thread the launcher alone notices.
        let _ = std::thread::Builder::new().name(name).spawn(move || listen(watch, other, stream));
    }
    Ok(())
}

/// The connections of the `others`, each with its rank; none where not all of them came.
fn accept(listener: &TcpListener, others: usize, word: u64) -> Option<Vec<(usize, TcpStream)>> {
    let began = Instant::now();
    listener.set_nonblocking(true).ok()?;
    let mut met = Vec::new();
    while met.len() < others {
        if began.elapsed() > PATIENCE {
            return None;
        }
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let mut hello = [0; 16];
        let heard = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
        if heard.and_then(|()| stream.read_exact(&mut hello)).is_ok() && hello[..8] == word.to_le_bytes() {
            stream.set_read_timeout(None).ok()?;
            let rank = u64::from_le_bytes(hello[8..].try_into().expect("eight bytes"));
            met.push((rank as usize, stream));
        }
    }
    Some(met)
}

/// The connection to rank 0.
fn connect(meeting: &Meeting, rank: usize, same_machine: bool) -> Option<Vec<(usize, TcpStream)>> {
    let host = if same_machine { "127.0.0.1" } else { &meeting.host };
    let mut stream = TcpStream::connect((host, meeting.port)).ok()?;
    let hello = [meeting.word.to_le_bytes(), (rank as u64).to_le_bytes()].concat();
    stream.write_all(&hello).ok()?;
    Some(vec![(0, stream)])
}

/// Waits for what rank `other` says last.
fn listen(watch: &Watch, other: usize, mut stream: TcpStream) {
    let mut said = Vec::new();
    // A connection that breaks is one that ends.
    let _ = stream.read_to_end(&mut said);
    if said.first() == Some(&DONE) || TOLD.load(SeqCst) {
        return;
    }
    let how = said.strip_prefix(&[FAILED]).map(|how| String::from_utf8_lossy(how).into_owned());
    // What rank 0 has failed with it says itself. Where it had no time to, rank 1 does.
    if watch.rank == 0 || (watch.rank == 1 && how.is_none()) {
        watch.conclude(other, &how.unwrap_or_else(|| "has ended without a word: killed, or out of memory".into()));
    }
    exit();
}

/// Not exit(): neither MPI nor a driver is to wait for those that are gone.
fn exit() -> ! {
    signal_hook::low_level::exit(1)
}

impl Watch {
    /// Says how it ends, once.
    fn conclude(&self, rank: usize, how: &str) {
        if TOLD.swap(true, SeqCst) {
            return;
        }
        self.send(&[FAILED]);
        let go_on = if how.contains(&self.resume) { String::new() } else { format!("; go on with `{}`", self.resume) };
        let name = &self.names[rank];
        let line = format!("error: {name}{} {how}{go_on}", if how.starts_with("has ") { "" } else { ":" });
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    fn send(&self, bytes: &[u8]) {
        for stream in self.others.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            // Who is gone hears nothing.
            let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        }
    }
}

/// Whether this process is one of several.
pub fn is_on() -> bool {
    WATCH.get().is_some()
}

/// Says, for all ranks, that this one fails with `error`; whether that is done, so that nobody else has to.
pub fn fail(error: &Error) -> bool {
    let Some(watch) = WATCH.get() else { return false };
    if watch.rank == 0 {
        watch.conclude(0, &error.to_string());
    } else if !TOLD.swap(true, SeqCst) {
        watch.send(&[&[FAILED], error.to_string().as_bytes()].concat());
        let heard = !watch.others.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        // It ends once rank 0 has said so, which closes the connection.
        if heard {
            std::thread::sleep(Duration::from_millis(500));
        }
        return heard;
    }
    true
}

/// All is done: from now on ranks may go.
pub fn end() {
    if let Some(watch) = WATCH.get() {
        TOLD.store(true, SeqCst);
        watch.send(&[DONE]);
    }
}
