//! Bytes of a record: a version, then postcard.
//!
//! A version, once released, is never changed: its golden bytes are in the tests. A new field means
//! a new version beside the old one, and a conversion. Old records are read for ever; a job's is
//! written anew when the job changes.

mod v1;
mod v2;

use serde::{Deserialize, Serialize};

use crate::job::{Hold, Job, Session};
use crate::store::apply::Header;

/// The largest version that is known.
const VERSION: u8 = 2;

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadRecord {
    #[error("a record of version {0}, newer than {VERSION}")]
    TooNew(u8),
    #[error("a record that cannot be read: {0}")]
    Garbled(String),
}

pub(super) fn encode_job(job: &Job) -> Vec<u8> {
    encode(2, &v2::JobV2::of(job))
}

pub(super) fn decode_job(bytes: &[u8]) -> Result<Job, BadRecord> {
    match version(bytes)? {
        (1, rest) => v1::job(decode(rest)?),
        (2, rest) => v2::job(decode(rest)?),
        (other, _) => Err(unknown(other)),
    }
}

pub(super) fn encode_session(session: &Session) -> Vec<u8> {
    encode(1, &v1::SessionV1::of(session))
}

pub(super) fn decode_session(bytes: &[u8]) -> Result<Session, BadRecord> {
    match version(bytes)? {
        (1, rest) => v1::session(decode(rest)?),
        (other, _) => Err(unknown(other)),
    }
}

pub(super) fn encode_header(header: &Header) -> Vec<u8> {
    encode(2, &v2::HeaderV2::of(header))
}

pub(super) fn decode_header(bytes: &[u8]) -> Result<Header, BadRecord> {
    match version(bytes)? {
        (1, rest) => Ok(v1::header(&decode(rest)?)),
        (2, rest) => Ok(v2::header(decode(rest)?)),
        (other, _) => Err(unknown(other)),
    }
}

pub(super) fn encode_hold(hold: &Hold) -> Vec<u8> {
    encode(2, &v2::HoldV2::of(hold))
}

pub(super) fn decode_hold(bytes: &[u8]) -> Result<Hold, BadRecord> {
    match version(bytes)? {
        (2, rest) => v2::hold(decode(rest)?),
        (other, _) => Err(unknown(other)),
    }
}

fn encode(version: u8, record: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(record, vec![version]).expect("a record is always serializable")
}

fn version(bytes: &[u8]) -> Result<(u8, &[u8]), BadRecord> {
    match bytes.split_first() {
        Some((&version, _)) if version > VERSION => Err(BadRecord::TooNew(version)),
        Some((&version, rest)) => Ok((version, rest)),
        None => Err(garbled("it is empty")),
    }
}

fn unknown(version: u8) -> BadRecord {
    garbled(format!("there is no version {version} of it"))
}

fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, BadRecord> {
    match postcard::take_from_bytes(bytes).map_err(garbled)? {
        (record, []) => Ok(record),
        (_, rest) => Err(garbled(format!("{} bytes too many", rest.len()))),
    }
}

fn garbled(error: impl ToString) -> BadRecord {
    BadRecord::Garbled(error.to_string())
}

#[cfg(test)]
mod tests;
