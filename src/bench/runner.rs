//! Runs jobs one after the other, each in a process of its own, so that cold start and peak memory
//! are measured per job, and neither a lost device nor a job that takes too long ends the others.

use super::plan::{Group, Planned, Size, prediction, share};
use super::row::{Message, ProfileRow, Row, Skipped};
use crate::error::Hint;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The results of all jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The measurements.
    pub rows: Vec<Row>,
    /// The missing measurements, with reasons.
    pub skipped: Vec<Skipped>,
    /// The profiles of runs, by kernel.
    pub profile: Vec<ProfileRow>,
}

impl Outcome {
    fn skip(&mut self, job: &Planned, op: String, reason: impl Into<String>) {
        self.skipped.push(Skipped {
            device: job.target.place.device.clone(),
            op,
            reason: reason.into(),
        });
    }

    fn add(&mut self, row: Row) {
        match self.rows.iter_mut().find(|r| r.place == row.place && r.same_case(&row)) {
            Some(old) => *old = row,
            None => self.rows.push(row),
        }
    }
}

/// Runs `jobs` within about `budget` seconds. `command` returns the command for a job and its
/// seconds; `before` is called when a job starts. Once `stop` is set, the running job is ended and
/// the rest skipped.
pub fn run(
    jobs: &[Planned],
    budget: f64,
    command: impl Fn(&Planned, f64) -> Command,
    stop: &AtomicBool,
    mut before: impl FnMut(usize, &Planned, f64),
) -> Outcome {
    let start = Instant::now();
    let mut outcome = Outcome::default();
    // Rounded up, as the jobs before it take time as well.
    let enough = |needed: f64| ((budget + needed) / 10.0).ceil() * 10.0;
    for (i, job) in jobs.iter().enumerate() {
        let name = job.group.describe();
        if stop.load(Ordering::Relaxed) {
            outcome.skip(job, name, "interrupted");
            continue;
        }
        let left = budget - start.elapsed().as_secs_f64();
        if left <= 0.0 {
            outcome.skip(job, name, format!("the budget is used up; {}", Hint::Budget(None)));
            continue;
        }
        let mut seconds = share(left, &jobs[i..]);
        if let Some(needed) = prediction(job, &outcome.rows) {
            if needed > left {
                let enough = enough(needed);
                let reason = format!(
                    "needs about {needed:.0} s, {left:.0} s left: {}",
                    Hint::Budget(Some(enough))
                );
                outcome.skip(job, name, reason);
                continue;
            }
            seconds = seconds.max(needed * 1.1).min(left);
        } else if let Some(smaller) = unmeasured_smaller(job, jobs, i) {
            outcome.skip(
                job,
                name,
                format!("no estimate of its time, as {} was not measured", smaller.describe()),
            );
            continue;
        }
        before(i, job, seconds);
        run_one(job, seconds, command(job, seconds), stop, &mut outcome);
    }
    outcome
}

/// Returns the smaller step that precedes `job` in the plan, for a step that `prediction` knows
/// nothing about.
fn unmeasured_smaller(job: &Planned, jobs: &[Planned], at: usize) -> Option<Group> {
    let smaller = match job.group {
        Group::Step(Size::Width(64)) => Group::Step(Size::Width(32)),
        Group::Step(Size::Paper) => Group::Step(Size::Width(64)),
        _ => return None,
    };
    jobs[..at].iter().any(|j| j.target == job.target && j.group == smaller).then_some(smaller)
}

/// A process that is killed when this value is dropped.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Fails only if it has ended. A process that hangs in its driver is abandoned after a
        // while.
        let _ = self.0.kill();
        for _ in 0..100 {
            match self.0.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(50)),
                _ => return,
            }
        }
        log::warn!("process {} doesn't exit", self.0.id());
    }
}

/// How a process ended.
enum End {
    Exit(std::io::Result<ExitStatus>),
    TooLong,
    Interrupted,
}

fn run_one(
    job: &Planned,
    seconds: f64,
    mut command: Command,
    stop: &AtomicBool,
    outcome: &mut Outcome,
) {
    // The process reads its standard input to notice when this one is gone.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = match command.spawn() {
        Ok(child) => Guard(child),
        Err(e) => {
            return outcome.skip(
                job,
                job.group.describe(),
                format!("its process can't be started: {e}"),
            );
        }
    };
    let (lines, errors) = (read_lines(child.0.stdout.take()), read_all(child.0.stderr.take()));
    let limit = start
        + Duration::try_from_secs_f64(seconds * 1.1 + 0.5).unwrap_or(Duration::from_secs(1 << 30));
    let mut planned: Vec<String> = Vec::new();
    let first = (outcome.rows.len(), outcome.skipped.len());
    let mut take = |line: String, outcome: &mut Outcome| match serde_json::from_str(&line) {
        Ok(Message::Planned(names)) => planned = names,
        Ok(Message::Row(row)) => outcome.add(*row),
        Ok(Message::Skipped(skipped)) => outcome.skipped.push(skipped),
        Ok(Message::Profile(profile)) => outcome.profile.push(profile),
        Err(e) => log::warn!("{}: invalid line from its process ({e}): {line}", job.group),
    };
    let end = loop {
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => take(line, outcome),
            Err(RecvTimeoutError::Disconnected) => break End::Exit(child.0.wait()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if stop.load(Ordering::Relaxed) {
            break End::Interrupted;
        }
        if Instant::now() > limit {
            break End::TooLong;
        }
    };
    drop(child);
    // Messages that were still in flight.
    while let Ok(line) = lines.recv_timeout(Duration::from_millis(200)) {
        take(line, outcome);
    }
    let errors = errors.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    if !errors.trim().is_empty() {
        log::info!("{} printed: {}", job.group.describe(), errors.trim());
    }
    let reason = match end {
        End::Exit(Ok(status)) if status.success() => return,
        // Ctrl-C on a terminal reaches the job's process as well.
        End::Exit(_) if stop.load(Ordering::Relaxed) => "interrupted".into(),
        End::Exit(Ok(status)) => {
            let told = errors.lines().rev().find_map(|l| l.strip_prefix("error: "));
            let told =
                told.map_or_else(|| format!("its process ended with {status}"), str::to_owned);
            return outcome.skip(job, format!("the rest of {}", job.group.describe()), told);
        }
        End::Exit(Err(e)) => format!("its process was lost: {e}"),
        End::TooLong => {
            format!("stopped after {:.0} s; {}", start.elapsed().as_secs_f64(), Hint::Budget(None))
        }
        End::Interrupted => "interrupted".into(),
    };
    let done = |name: &String| {
        outcome.rows[first.0..].iter().any(|r| r.median_ms.is_some() && r.name() == *name)
            || outcome.skipped[first.1..].iter().any(|s| s.op == *name)
    };
    let missing: Vec<String> = planned.iter().filter(|name| !done(name)).cloned().collect();
    if planned.is_empty() {
        outcome.skip(job, job.group.describe(), reason);
    } else {
        missing.into_iter().for_each(|name| outcome.skip(job, name, reason.clone()));
    }
}

fn read_lines(from: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = from.into_iter().flat_map(|f| BufReader::new(f).lines().map_while(Result::ok));
        lines.for_each(|line| drop(send.send(line)));
    });
    receive
}

fn read_all(from: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut bytes);
        }
        let _ = send.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receive
}
