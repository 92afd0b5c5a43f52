//! `soda bench`: benchmarks of the devices of this machine.

mod estimate;
mod merge;
mod ranks;
mod recipe;

use crate::cli::args::{Common, PrecisionArgs};
use crate::cli::device::{self, adapters, select};
use crate::cli::interrupt::Interrupt;
use crate::cli::launcher;
use crate::cli::output::{self, Holds, Output};
use crate::cli::terminal;
use indicatif::ProgressStyle;
use serde_json::json;
use soda::bench::job::Job;
use soda::bench::plan::{Group, Planned, Suite, Target, jobs, of_recipe};
use soda::bench::row::{Message, Place, Skipped};
use soda::bench::runner::{self, Outcome};
use soda::bench::{chart, compare, table};
use soda::device::Selected;
use soda::error::{Error, Result};
use soda::machine;
use soda::progress::say;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Arguments of `soda bench`.
#[derive(clap::Args)]
#[command(
    after_help = "--device all measures the CPU and every adapter, software adapters included. \
                  Benchmarks that don't fit the budget are listed as skipped."
)]
pub struct Args {
    /// Benchmarks to run: kernels, step, inference, data, all or host. host measures the host's
    /// time at the size of the paper, on a GPU or with scripts/host_time.sh.
    #[arg(long, default_value = "all")]
    suite: Suite,
    /// Total time for all benchmarks.
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0, allow_negative_numbers = true, value_parser = seconds)]
    budget: f64,
    /// Save a bar chart that compares the devices (needs at least two).
    #[arg(long, value_name = "F.png")]
    plot: Option<PathBuf>,
    /// Also profile time and launches per kernel of one training step, encoding and denoising.
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Compare two earlier results (written with --json) instead: print their ratios.
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"], conflicts_with_all = ["suite", "budget", "plot", "profile", "device"])]
    compare: Option<Vec<PathBuf>>,
    /// Print the rows as a Markdown table, ready to be pasted (kernels are left out).
    #[arg(long, conflicts_with_all = ["compare", "estimate"])]
    markdown: bool,
    /// Merge earlier results (written with --json), also of several machines, into one table
    /// instead; --json writes a merged file.
    #[arg(long, num_args = 1.., value_name = "FILE.json", conflicts_with_all = ["suite", "budget", "plot", "profile", "compare", "estimate", "device"])]
    merge: Option<Vec<PathBuf>>,
    /// Estimate a training step on another card, without measuring anything. CARD is a40, rtx3060,
    /// rx6800, arc770, m1, or a file of a card's specifications; `check` compares the estimates
    /// with measurements on --device.
    #[arg(long, value_name = "CARD|FILE.toml", conflicts_with_all = ["suite", "budget", "plot", "profile", "compare"])]
    estimate: Option<String>,
    #[command(flatten)]
    recipe: recipe::Args,
    #[command(flatten)]
    estimated: estimate::Args,
    /// Run this job in this process and print its rows as they come.
    #[arg(long, hide = true)]
    job: Option<Group>,
    /// Time limit of the job.
    #[arg(long, hide = true, requires = "job", default_value_t = 60.0, allow_negative_numbers = true, value_parser = seconds)]
    job_seconds: f64,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if s > 0.0 && s <= 1e6 => Ok(s),
        _ => Err("expected a number of seconds above 0 and up to 1000000".into()),
    }
}

/// Runs the benchmarks, or compares or estimates results.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let started = Instant::now();
    if let Some(group) = args.job {
        return run_job(group, args, common, started);
    }
    let mut output = Output::new("bench");
    let in_f32 = args.precision.is_f32();
    if !in_f32 && args.compare.is_some() {
        return Err(Error::usage("--precision: --compare measures nothing; leave it out"));
    }
    if !in_f32 && args.merge.is_some() {
        return Err(Error::usage("--precision: --merge measures nothing; leave it out"));
    }
    if !in_f32 && args.estimate.is_some() {
        return Err(Error::usage(
            "--precision: --estimate measures nothing; use `--set train.precision=mixed` with it",
        ));
    }
    if let Some([a, b]) = args.compare.as_deref() {
        let comparison = compare::compare(&compare::read(a)?, &compare::read(b)?);
        outln!("A: {}\nB: {}\nA / B above 1: B is faster", a.display(), b.display());
        out!("{}", table::comparison(&comparison));
        output.set("compared", json!([a, b]));
        output.merge(json!(comparison));
        return output.write(common);
    }
    if let Some(files) = &args.merge {
        return merge::run(files, args.markdown, common, output);
    }
    if let Some(card) = &args.estimate {
        if card != "check" {
            common.warn_unused_device("nothing is measured");
        }
        return estimate::run(card, &args.estimated, &args.recipe, common, output);
    }
    if args.suite == Suite::Step
        && let Some(ranks) = launcher::join()?
    {
        if !in_f32 || args.profile || args.plot.is_some() || args.markdown {
            return Err(Error::usage(
                "--precision, --profile, --plot and --markdown are for one process; several \
                 processes measure a step and its exchange",
            ));
        }
        return ranks::run(ranks, common, output);
    }
    let recipe = args.recipe.read(args.precision)?;
    let (targets, refused) = targets(common, args.precision)?;
    let mut planned = match recipe {
        Some(_) => of_recipe(&targets),
        None => jobs(&targets, &target(&Selected::cpu("")), args.suite),
    };
    if !in_f32 && !planned.is_empty() {
        planned.retain(|job| job.group.has_networks());
        if planned.is_empty() {
            return Err(Error::usage(
                "--precision applies to the networks only: add --suite step or --suite inference",
            ));
        }
        if args.suite == Suite::All {
            say("--precision applies to the networks only: the other benchmarks are left out");
        }
    }
    if args.profile && !planned.iter().any(|job| job.group.has_networks()) {
        return Err(Error::usage(
            "--profile is of the networks: add --suite step or --suite inference",
        ));
    }
    if planned.is_empty() {
        return Err(Error::usage(
            "--suite host measures at the size of the paper and needs a GPU; scripts/host_time.sh \
             runs it without one",
        ));
    }
    // Fail before the work if the chart can't be written.
    if let Some(path) = &args.plot {
        output::prepare("--plot", path, Holds::Picture)?;
    }
    let interrupt = Interrupt::listen()?;
    output.set("date", json!(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
    let mut outcome = measure(&planned, args, common.verbosity.verbose, &interrupt)?;
    outcome.skipped.extend(refused);
    let only = if let [only] = targets.as_slice() { Some(&only.place) } else { None };
    output.set(
        "device",
        json!(only.map(|p| if p.device == "cpu" { "cpu" } else { p.backend.as_str() })),
    );
    output.set("adapter", json!(only.map(|p| &p.adapter)));
    output.set("driver", json!(only.map(|p| &p.driver)));
    output.set("machine", machine::describe());
    if let Some(path) = &args.recipe.config {
        output.set("recipe", json!({ "config": path, "set": args.recipe.set }));
    }
    output.set("budget_s", json!(args.budget));
    output.set("rows", json!(outcome.rows));
    output.set("skipped", json!(outcome.skipped));
    if args.profile {
        output.set("profile", json!(outcome.profile));
    }
    let (profile, skipped) = (table::profile(&outcome.profile), table::skipped(&outcome.skipped));
    if args.markdown {
        merge::print(&merge::in_one_table(&mut output)?, true);
        // Standard output holds the table only.
        profile.lines().chain(skipped.lines()).for_each(say);
    } else {
        out!("{}{profile}{skipped}", table::rows(&outcome.rows));
    }
    // Written before the chart is drawn; the chart is drawn even if that fails.
    let written = output.write(common);
    let drawn = args.plot.as_ref().map(|path| chart::save(path, &outcome.rows));
    written?;
    if let (Some(path), Some(false)) = (&args.plot, drawn.transpose()?) {
        let why = "no benchmark ran on two devices, so there is nothing to compare";
        let remedy = if targets.len() == 1 { "; --device all measures every device" } else { "" };
        say(&format!("{} is not drawn: {why}{remedy}", path.display()));
    }
    if interrupt.stop.load(Ordering::Relaxed) {
        return Err(Error::failed("interrupted; the results so far are printed above"));
    }
    Ok(())
}

/// Returns the devices of the command line. `all` selects the CPU and every adapter that supports
/// the precision; the other adapters are returned as skipped.
fn targets(common: &Common, precision: PrecisionArgs) -> Result<(Vec<Target>, Vec<Skipped>)> {
    if common.device != "all" {
        let device = device::selected(common)?;
        precision.on(&device)?;
        return Ok((vec![target(&device)], Vec::new()));
    }
    let (mut targets, mut refused) = (Vec::new(), Vec::new());
    let selected = adapters().into_iter().map(|a| select(&a.selector()));
    for device in std::iter::once(Ok(Selected::cpu("asked for"))).chain(selected) {
        let device = device?;
        let Target { place, gpu } = target(&device);
        match precision.on(&device) {
            Ok(_) => targets.push(Target { place, gpu }),
            Err(e) => refused.push(Skipped {
                device: place.device,
                op: "everything".into(),
                reason: e.to_string(),
            }),
        }
    }
    if targets.is_empty() {
        return Err(Error::usage(format!(
            "no device of this machine computes in {}: {}",
            precision.name(),
            refused[0].reason
        )));
    }
    Ok((targets, refused))
}

fn target(device: &Selected) -> Target {
    Target { place: Place::of(device), gpu: device.gpu }
}

fn measure(
    planned: &[Planned],
    args: &Args,
    verbose: u8,
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let program = std::env::current_exe()
        .map_err(|e| Error::failed(format!("cannot find this program to start it again: {e}")))?;
    let command = |job: &Planned, seconds: f64| {
        let mut command = Command::new(&program);
        command.args([
            "bench",
            "--job",
            &job.group.to_string(),
            "--device",
            &job.target.place.device,
        ]);
        command.args([
            "--job-seconds",
            &format!("{seconds:.3}"),
            "--precision",
            args.precision.name(),
        ]);
        if args.profile {
            command.arg("--profile");
        }
        args.recipe.pass(&mut command);
        command.args((0..verbose).map(|_| "-v"));
        command
    };
    let bar = terminal::bar(None).with_style(ProgressStyle::default_spinner());
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(120));
    }
    let outcome = runner::run(planned, args.budget, command, &interrupt.stop, |i, job, seconds| {
        let (place, count) = (&job.target.place, planned.len());
        let line = format!(
            "[{}/{count}] {}: {}, up to {seconds:.0} s",
            i + 1,
            place.device,
            job.group.describe()
        );
        match bar.is_hidden() {
            true => say(&line),
            false => bar.set_message(line),
        }
    });
    bar.finish_and_clear();
    Ok(outcome)
}

/// Runs one job in its own process, writing only its rows, as JSON lines, to standard output.
fn run_job(group: Group, args: &Args, common: &Common, started: Instant) -> Result<()> {
    // Standard input closes when the parent process ends, for whatever reason.
    std::thread::spawn(|| {
        let mut buffer = [0; 64];
        while std::io::stdin().read(&mut buffer).is_ok_and(|n| n > 0) {}
        // Not exit(): the driver's clean-up would wait for abandoned work.
        signal_hook::low_level::exit(1);
    });
    let device = select(&common.device)?;
    let send = |message: &Message| {
        let line = serde_json::to_string(message)
            .map_err(|e| Error::failed(format!("cannot encode a row: {e}")))?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|e| Error::failed(format!("cannot write a row: {e}")))
    };
    let precision = args.precision.on(&device)?;
    let mut job =
        Job::new(&device, precision, started, args.job_seconds, args.profile, Box::new(send));
    if let Some((name, config)) = args.recipe.read(args.precision)? {
        job = job.with_recipe(name, config);
    }
    job.run(group)
}
