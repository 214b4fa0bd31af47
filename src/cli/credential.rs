//! `kugetsu credential get|store|erase`: what a git of kugetsu's asks for a token.
//!
//! It speaks git's protocol (`gitcredentials(7)`), and knows what its git's environment says: one
//! host and its token. It stores and erases nothing.

use std::collections::BTreeMap;
use std::io::{self, Read};

use clap::Args;

use crate::cli::context::{CliError, Context, print};
use crate::cli::exit::CliExit;
use crate::git::credentials::{HOST_VARIABLE, SECRET_VARIABLE, answer};
use crate::job::limits;

#[derive(Args)]
pub(super) struct Arguments {
    /// get; anything else is answered by nothing
    operation: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let request = read_request(io::stdin().lock())?;
    let said = request.and_then(|text| reply(&arguments.operation, &text, &context.environment));
    if let Some(said) = said {
        print(&said)?;
    }
    Ok(CliExit::Success)
}

/// The question; `None` if it is too long or no text, which git's is not.
fn read_request(mut from: impl Read) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    from.by_ref().take(limits::CREDENTIAL_REQUEST_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let is_whole = bytes.len() as u64 <= limits::CREDENTIAL_REQUEST_BYTES_MAX;
    Ok(String::from_utf8(bytes).ok().filter(|_| is_whole))
}

fn reply(operation: &str, request: &str, environment: &BTreeMap<String, String>) -> Option<String> {
    let host = environment.get(HOST_VARIABLE)?;
    let secret = environment.get(SECRET_VARIABLE)?;
    answer(operation, request, host, secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_and_what_is_answered() {
        const REQUEST: &str = "protocol=https\nhost=h.example\n\n";
        let both = [(HOST_VARIABLE, "h.example"), (SECRET_VARIABLE, "s3cr3t")];
        let other = [(HOST_VARIABLE, "other.example"), (SECRET_VARIABLE, "s3cr3t")];
        for (operation, request, environment, is_answered) in [
            ("get", REQUEST, &both[..], true),
            ("store", REQUEST, &both, false),
            ("erase", REQUEST, &both, false),
            ("capability", REQUEST, &both, false),
            ("get", "protocol=http\nhost=h.example\n", &both, false),
            ("get", REQUEST, &other, false),
            ("get", REQUEST, &both[..1], false),
            ("get", REQUEST, &both[1..], false),
            ("get", REQUEST, &[], false),
        ] {
            let environment: BTreeMap<String, String> =
                environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let expected = "username=x-access-token\npassword=s3cr3t\n";
            let said = reply(operation, request, &environment);
            assert_eq!(said.as_deref(), is_answered.then_some(expected), "{operation} {request}");
        }
    }

    #[test]
    fn a_question_has_a_bound() {
        let bound = usize::try_from(limits::CREDENTIAL_REQUEST_BYTES_MAX).expect("it is small");
        for (request, is_read) in [
            (vec![], true),
            (vec![b'a'; bound], true),
            (vec![b'a'; bound + 1], false),
            (vec![0xff], false),
        ] {
            let read = read_request(request.as_slice()).expect("memory can be read");
            assert_eq!(read.is_some(), is_read, "{} bytes", request.len());
        }
        let endless = read_request(io::repeat(b'a')).expect("it is cut");
        assert_eq!(endless, None);
    }
}
