//! An agent's log for people: opencode's events as what was said and done.

use serde_json::Value;

/// Lines of a tool's output that are shown.
const OUTPUT_LINES_MAX: usize = 12;

/// A line of a log as people want to read it; `None` for events that tell nothing.
///
/// A line that is not an event of a known kind is shown as it is.
pub(super) fn readable(line: &str) -> Option<String> {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return Some(line.into()) };
    let part = &event["part"];
    match event["type"].as_str() {
        Some("text") => Some(part["text"].as_str().unwrap_or_default().trim_end().into()),
        Some("tool_use") => Some(tool(part)),
        Some("error") => Some(format!("error: {}", error(&event["error"]))),
        Some("step_start" | "step_finish" | "reasoning") => None,
        Some(_) | None => Some(line.into()),
    }
}

fn tool(part: &Value) -> String {
    let state = &part["state"];
    let name = part["tool"].as_str().unwrap_or("tool");
    let head = match state["input"]["command"].as_str() {
        Some(command) => format!("$ {command}"),
        None => format!("[{name}] {}", state["title"].as_str().unwrap_or_default()),
    };
    let output = state["output"].as_str().or(state["error"].as_str()).unwrap_or_default();
    let lines: Vec<&str> = output.trim_end().lines().collect();
    let shown = lines.iter().take(OUTPUT_LINES_MAX).map(|line| format!("\n  {line}"));
    let more = lines.len().saturating_sub(OUTPUT_LINES_MAX);
    let more = if more > 0 { format!("\n  … {more} more lines") } else { String::new() };
    format!("{head}{}{more}", shown.collect::<String>())
}

fn error(error: &Value) -> String {
    let message = error["data"]["message"].as_str().or(error["message"].as_str());
    message.map_or_else(|| error.to_string(), String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_what_was_said_and_done() {
        let long: String = (1..=14).map(|n| format!("{n}\\n")).collect();
        let long = format!(
            r#"{{"type":"tool_use","part":{{"tool":"bash","state":{{"input":{{"command":"seq 14"}},"output":"{long}"}}}}}}"#
        );
        let shown: String = (1..=12).map(|n| format!("\n  {n}")).collect();
        for (line, expected) in [
            ("plain text", Some("plain text".to_string())),
            ("{\"no\":\"event\"}", Some("{\"no\":\"event\"}".into())),
            ("{\"type\":\"news\"}", Some("{\"type\":\"news\"}".into())),
            (r#"{"type":"step_start","part":{}}"#, None),
            (r#"{"type":"text","part":{"text":"done.\n"}}"#, Some("done.".into())),
            (
                r#"{"type":"tool_use","part":{"tool":"read","state":{"input":{},"title":"a.rs"}}}"#,
                Some("[read] a.rs".into()),
            ),
            (&long, Some(format!("$ seq 14{shown}\n  … 2 more lines"))),
            (
                r#"{"type":"error","error":{"name":"X","data":{"message":"no credit"}}}"#,
                Some("error: no credit".into()),
            ),
        ] {
            assert_eq!(readable(line), expected, "{line}");
        }
    }
}
