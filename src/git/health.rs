//! A cheap look at a repository of kugetsu's own: whether a power loss, or whoever wrote over one of
//! its files, left it in pieces.
//!
//! What a power loss leaves are files of no bytes, or of zeros. An index of a pack ends with the
//! sum that the pack ends with; so a pair that was cut, swapped or zeroed is seen without reading it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;

use crate::git::disk;
use crate::job::limits;

/// Looks. What is wrong is said in words.
pub(crate) fn look(folder: &Path) -> Result<(), String> {
    let said = |error: io::Error| format!("it cannot be read: {error}");
    for (name, is_needed) in [("HEAD", true), ("config", true), ("packed-refs", false)] {
        match fs::symlink_metadata(folder.join(name)) {
            Ok(metadata) if metadata.is_file() && metadata.len() > 0 => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_needed => {}
            Ok(_) => return Err(format!("{name} is empty or no file")),
            Err(error) => return Err(format!("{name}: {error}")),
        }
    }
    let head = disk::read_small(&folder.join("HEAD")).map_err(said)?;
    if !head.starts_with("ref: refs/") {
        return Err("HEAD names no reference".into());
    }
    let config = disk::read_small(&folder.join("config")).map_err(said)?;
    if config.trim_matches('\0').is_empty() {
        return Err("config is blank".into());
    }
    let hash_bytes = if config.contains("sha256") { 32 } else { 20 };
    let packs = folder.join("objects/pack");
    let entries = fs::read_dir(&packs).map_err(|error| format!("objects/pack: {error}"))?;
    for entry in entries.take(limits::ENTRIES_LOOKED_AT_MAX) {
        let name = entry.map_err(said)?.file_name();
        let name = name.to_string_lossy();
        if let Some(stem) = name.strip_suffix(".pack") {
            check_pair(&packs, stem, hash_bytes).map_err(|why| format!("{name}: {why}"))?;
        }
    }
    Ok(())
}

/// Whether a pack and its index begin as they should, and end with the same sum.
fn check_pair(packs: &Path, stem: &str, hash_bytes: usize) -> Result<(), String> {
    let pack = open(&packs.join(format!("{stem}.pack")));
    let index = open(&packs.join(format!("{stem}.idx")));
    let (pack, index) = match (pack, index) {
        (Ok(pack), Ok(index)) => (pack, index),
        // A pack without an index is one whose making was cut off.
        (Ok(_), Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        (Err(error), _) | (_, Err(error)) => return Err(error.to_string()),
    };
    let ends = |file: &File, sums: usize| -> io::Result<([u8; 4], Vec<u8>)> {
        let mut magic = [0; 4];
        let mut reader: &File = file;
        reader.read_exact(&mut magic)?;
        let mut sum = vec![0; hash_bytes];
        let back = u64::try_from(sums * hash_bytes).map_err(io::Error::other)?;
        let at = file.metadata()?.len().checked_sub(back);
        file.read_exact_at(&mut sum, at.ok_or(io::ErrorKind::UnexpectedEof)?)?;
        Ok((magic, sum))
    };
    let (pack_magic, pack_sum) = ends(&pack, 1).map_err(|error| error.to_string())?;
    let (index_magic, index_sum) = ends(&index, 2).map_err(|error| error.to_string())?;
    if &pack_magic != b"PACK" || &index_magic != b"\xfftOc" {
        return Err("it does not begin like one".into());
    }
    if pack_sum != index_sum || pack_sum.iter().all(|byte| *byte == 0) {
        return Err("its index belongs to another one".into());
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file")),
    }
}
