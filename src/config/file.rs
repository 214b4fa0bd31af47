//! The file `config`: its text, its lines, and what they set.

use std::io::Read;
use std::path::Path;

use crate::config::keys::Draft;
use crate::config::{ConfigError, KEYS, Sensitivity, tokens};
use crate::job::limits;
use crate::secrets::Address;

pub(super) fn read_file(path: &Path) -> Result<Option<String>, ConfigError> {
    let refuse = |what: String| ConfigError { place: path.display().to_string(), what };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(error.to_string())),
        Ok(metadata) if metadata.is_dir() => return Err(refuse("it is a folder".into())),
        // A pipe would be waited for.
        Ok(metadata) if !metadata.is_file() => return Err(refuse("it is not a file".into())),
        Ok(metadata) if metadata.len() > limits::CONFIG_BYTES_MAX => {
            return Err(refuse(format!("it has more than {} bytes", limits::CONFIG_BYTES_MAX)));
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limits::CONFIG_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| refuse(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let place = format!("{}:{line}", path.display());
        ConfigError { place, what: "this is not UTF-8: save the file as UTF-8".into() }
    })?;
    Ok(Some(text.strip_prefix('\u{feff}').unwrap_or(&text).to_string()))
}

/// What a line says: a name and its value. `None` is a line that says nothing.
pub(super) fn assignment(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("this is not KEY=value")?;
    Ok(Some((name.trim(), unquote(value.trim()))))
}

/// Whether a line of a file holds what nobody else may read, and under which name.
pub(crate) fn secret_in_line(line: &str) -> Option<&str> {
    let (name, value) = assignment(line).ok().flatten()?;
    let is_secret = match sensitivity_of(name)? {
        Sensitivity::Open => false,
        Sensitivity::Password => Address::new(value).without_password() != value,
        Sensitivity::Secret => !value.is_empty(),
    };
    is_secret.then_some(name)
}

/// What of a key's value is secret; `None` if there is no such key.
pub(super) fn sensitivity_of(name: &str) -> Option<Sensitivity> {
    if name.starts_with(tokens::PREFIX) {
        return Some(Sensitivity::Secret);
    }
    KEYS.iter().find(|key| key.name == name).map(|key| key.sensitivity)
}

pub(super) fn apply_line(draft: &mut Draft, line: &str) -> Result<(), String> {
    let Some((name, value)) = assignment(line)? else { return Ok(()) };
    if name == "KUGETSU_DIR" {
        return Err("KUGETSU_DIR says where this file is: set it in the environment".into());
    }
    if name == "KUGETSU_LOG" {
        return Err("KUGETSU_LOG is read from the environment alone".into());
    }
    apply(draft, name, value)
}

/// Sets a key; an empty value is its default.
pub(super) fn apply(draft: &mut Draft, name: &str, value: &str) -> Result<(), String> {
    if name.starts_with(tokens::PREFIX) {
        return tokens::set(&mut draft.tokens, name, value).map_err(|why| format!("{name}: {why}"));
    }
    let Some(key) = KEYS.iter().find(|key| key.name == name) else {
        return Err(unknown_key(name));
    };
    let text = if value.is_empty() { key.default } else { value };
    (key.set)(draft, text).map_err(|why| match key.sensitivity {
        Sensitivity::Secret => format!("{name}: {why}"),
        Sensitivity::Password => format!("{name}={}: {why}", Address::new(text)),
        Sensitivity::Open => format!("{name}={text}: {why}"),
    })
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        let inner = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner;
        }
    }
    value
}

fn unknown_key(name: &str) -> String {
    let closest = KEYS
        .iter()
        .map(|key| (strsim::jaro_winkler(&name.to_ascii_uppercase(), key.name), key.name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match closest {
        Some((likeness, key)) if likeness > 0.8 => {
            format!("there is no key {name} (did you mean {key}?)")
        }
        _ => format!("there is no key {name}"),
    }
}
