//! `queue import`

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::thread;

use clap::Args;
use crossbeam_channel::{Sender, bounded, select};
use serde_json::json;

use crate::cli::context::{CliError, Context, print, stop_requests};
use crate::cli::exchange;
use crate::cli::exit::CliExit;
use crate::cli::progress::Progress;
use crate::cli::render::Format;
use crate::job::{Job, limits};
use crate::queue::Queue;
use crate::store::{Op, Reply};
use crate::time::Timestamp;

#[derive(Args)]
#[command(after_help = "\
Reads what `queue export` writes, and lines that you write: `issue_ref` and
`message`, and if you like `priority`, `run_at`, `request_id` and whatever else an
exported line has. Jobs that ended come in as ended; running ones are pending.

A job whose request id the queue knows, or that is this queue's own, is left
alone, so the same lines can be imported again. A bad line ends the import and is
named; it takes along no more than the chunk of lines that it is in.

Examples:
  kugetsu queue import jobs.jsonl
  echo '{\"issue_ref\":\"github.com/a/b#1\",\"message\":\"fix\"}' | kugetsu queue import -")]
pub(super) struct Arguments {
    /// The file with the lines; `-` is standard input
    file: String,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Jobs of consecutive lines, which come in together or not at all.
struct Chunk {
    jobs: Vec<Job>,
    /// The number of its first line, from 1, and of the line after it.
    first_line: u64,
    next_line: u64,
    bytes: u64,
}

/// What ends an import early.
struct BadLine {
    number: u64,
    why: String,
    /// The first line that is not imported.
    resume_at: u64,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let config = context.config()?;
    let (source, bytes) = open(&arguments.file)?;
    let queue = context.queue(&config)?;
    let stop_requests = stop_requests()?;
    let (sender, chunks) = bounded(1);
    let now = queue.now();
    thread::Builder::new().name("import".into()).spawn(move || read(source, now, &sender))?;
    let progress = Progress::begin("importing", bytes.unwrap_or(0), bytes.is_some());
    let (mut added, mut known, mut resume_at) = (0, 0, 1);
    loop {
        let chunk = select! {
            recv(chunks) -> chunk => chunk,
            recv(stop_requests) -> _ => {
                let error = CliError::new(CliExit::Interrupted, "interrupted");
                return Err(with_place(error, &arguments.file, added + known, resume_at));
            }
        };
        // The reader is at its end.
        let Ok(chunk) = chunk else { break };
        let chunk = chunk.map_err(|bad| {
            let error = CliError::general(format!("line {}: {}", bad.number, bad.why));
            with_place(error, &arguments.file, added + known, bad.resume_at)
        })?;
        let (new, old) = restore(&queue, chunk.jobs)
            .map_err(|error| with_place(error, &arguments.file, added + known, chunk.first_line))?;
        added += new;
        known += old;
        resume_at = chunk.next_line;
        progress.advance(chunk.bytes);
    }
    drop(progress);
    print(&match arguments.format {
        Format::Text if known == 0 => format!("Imported {added} job(s)\n"),
        Format::Text => format!("Imported {added} job(s); {known} were there already\n"),
        Format::Json => format!("{:#}\n", json!({ "imported": added, "known": known })),
    })?;
    Ok(CliExit::Success)
}

/// The lines, and how many bytes they have if that is known.
fn open(file: &str) -> Result<(Box<dyn Read + Send>, Option<u64>), CliError> {
    if file == "-" {
        return Ok((Box::new(io::stdin()), None));
    }
    let refuse = |error: io::Error| CliError::general(format!("cannot read {file}: {error}"));
    let source = File::open(Path::new(file)).map_err(refuse)?;
    let metadata = source.metadata().map_err(refuse)?;
    if metadata.is_dir() {
        return Err(CliError::general(format!("cannot read {file}: it is a folder")));
    }
    Ok((Box::new(source), metadata.is_file().then_some(metadata.len())))
}

/// Says how far the import came, and how to go on.
fn with_place(error: CliError, file: &str, done: u64, resume_at: u64) -> CliError {
    if done == 0 {
        return error.hint("nothing was imported");
    }
    let rest = if file == "-" {
        format!("go on with line {resume_at}")
    } else {
        format!("go on with `tail -n +{resume_at} {file} | kugetsu queue import -`")
    };
    error.hint(format!("the {done} job(s) before line {resume_at} are imported; {rest}"))
}

/// One transaction. Gives how many jobs were new, and how many were known.
fn restore(queue: &Queue, jobs: Vec<Job>) -> Result<(u64, u64), CliError> {
    let operations = jobs.into_iter().map(|job| Op::Restore(Box::new(job))).collect();
    let (mut added, mut known) = (0, 0);
    for answer in queue.commit(operations)? {
        match answer {
            Ok(Reply::Enqueued { new: true, .. }) => added += 1,
            Ok(Reply::Enqueued { new: false, .. }) => known += 1,
            Ok(other) => unreachable!("a restore is not answered by {other:?}"),
            // Each line was looked at before it got here.
            Err(refused) => return Err(CliError::general(refused)),
        }
    }
    Ok((added, known))
}

/// Reads chunks and hands them over, until the lines or whoever takes them are at an end.
fn read(source: Box<dyn Read + Send>, now: Timestamp, sender: &Sender<Result<Chunk, BadLine>>) {
    let mut lines = Lines { source: BufReader::new(source), number: 0, text: Vec::new() };
    loop {
        let chunk = read_chunk(&mut lines, now);
        let is_last = match &chunk {
            Ok(chunk) if chunk.bytes == 0 => return,
            Ok(_) => false,
            Err(_) => true,
        };
        if sender.send(chunk).is_err() || is_last {
            return;
        }
    }
}

fn read_chunk(lines: &mut Lines, now: Timestamp) -> Result<Chunk, BadLine> {
    let first_line = lines.number + 1;
    let mut chunk = Chunk { jobs: Vec::new(), first_line, next_line: first_line, bytes: 0 };
    let limit = limits::IMPORT_CHUNK_BYTES_MAX as u64;
    while chunk.jobs.len() < limits::OPS_PER_COMMIT_MAX && chunk.bytes < limit {
        let bad = |number, why| BadLine { number, why, resume_at: first_line };
        let number = lines.number + 1;
        let Some(text) = lines.next().map_err(|why| bad(number, why))? else { break };
        chunk.bytes += text.len() as u64;
        chunk.next_line = number + 1;
        let text = std::str::from_utf8(text).map_err(|_| bad(number, "it is not UTF-8".into()))?;
        if !text.trim().is_empty() {
            let job = exchange::from_line(text.trim_end(), now).map_err(|why| bad(number, why))?;
            chunk.jobs.push(job);
        }
    }
    Ok(chunk)
}

/// Lines with a bound on their length.
struct Lines {
    source: BufReader<Box<dyn Read + Send>>,
    number: u64,
    text: Vec<u8>,
}

impl Lines {
    /// The next line, or `None` at the end.
    fn next(&mut self) -> Result<Option<&[u8]>, String> {
        self.text.clear();
        self.number += 1;
        let limit = limits::IMPORT_LINE_BYTES_MAX;
        let mut bounded = (&mut self.source).take(limit as u64 + 1);
        match bounded.read_until(b'\n', &mut self.text) {
            Err(error) => Err(format!("cannot read it: {error}")),
            Ok(0) => Ok(None),
            Ok(length) if length > limit => Err(format!("it has more than {limit} bytes")),
            Ok(_) => Ok(Some(&self.text)),
        }
    }
}
