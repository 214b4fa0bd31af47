//! What a line of JSON means: the event streams of opencode and kilo, claude, codex, gemini, cline.
//!
//! Which agent it is, the event tells; their types do not collide where it matters. A tool's output
//! lies deeper in an event than anything that is looked at here.

use serde_json::Value;

use super::facts::{Facts, code_kind};
use super::usage::Counter;
use crate::job::limits;

/// What an event means to the run.
#[derive(Debug, Clone)]
pub(super) enum Meaning {
    /// The agent is at work, and may have said something.
    Progress(Option<String>),
    /// Something failed; what comes after may show that it was not the end.
    Failure(Facts),
    /// Something failed, and the agent says itself that it goes on.
    Passing(Facts),
    /// A plan's window is used up, or (without facts) is not.
    Window(Option<Facts>),
    /// The run or its turn ended well, perhaps with refused permissions.
    Ended { text: Option<String>, denied: Vec<String> },
    /// Nothing that matters here.
    Other,
}

/// The session that an event names.
pub(super) fn session(event: &Value) -> Option<&str> {
    let kind = event["type"].as_str().unwrap_or_default();
    let is_event = !kind.is_empty() || event["error"].is_object() || event["response"].is_string();
    let candidates = [
        event["sessionID"].as_str(),
        event["session_id"].as_str().filter(|_| is_event),
        event["sessionId"].as_str().filter(|_| is_event),
        event["thread_id"].as_str().filter(|_| kind == "thread.started"),
        event["taskId"].as_str().filter(|_| kind == "hook_event"),
    ];
    candidates.into_iter().flatten().find(|id| is_session_id(id))
}

/// A session becomes an argument of the agent's command: no surprises.
pub(super) fn is_session_id(text: &str) -> bool {
    (1..=limits::SESSION_ID_BYTES_MAX).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b))
}

/// Whether it can only be an event of an agent's stream, and no JSON that a tool printed.
pub(super) fn is_of_a_stream(event: &Value) -> bool {
    const TYPES: &[&str] = &[
        "step_start",
        "step_finish",
        "tool_use",
        "text",
        "reasoning",
        "assistant",
        "user",
        "system",
        "result",
        "rate_limit_event",
        "stream_event",
        "thread.started",
        "turn.started",
        "turn.completed",
        "turn.failed",
        "item.started",
        "item.updated",
        "item.completed",
        "init",
        "agent_event",
        "run_result",
        "hook_event",
    ];
    session(event).is_some()
        || event["type"].as_str().is_some_and(|kind| TYPES.contains(&kind))
        || event["is_error"].is_boolean()
}

/// Reads an event and counts what it says was used.
pub(super) fn read(event: &Value, counter: &mut Counter) -> Meaning {
    match event["type"].as_str() {
        Some("error") if event["severity"] == "warning" => Meaning::Passing(Facts::of_event(event)),
        Some("error" | "turn.failed") => Meaning::Failure(Facts::of_event(event)),
        Some("text") => Meaning::Progress(owned(&event["part"]["text"])),
        Some("step_finish") => {
            counter.step_finish(&event["part"]);
            Meaning::Progress(None)
        }
        Some("tool_use" | "tool_result" | "reasoning" | "user" | "stream_event") => {
            Meaning::Progress(None)
        }
        Some("assistant") => assistant(event, counter),
        Some("system") if event["subtype"] == "api_retry" => {
            Meaning::Passing(Facts::of_event(event))
        }
        Some("rate_limit_event") => window(&event["rate_limit_info"]),
        Some("item.started" | "item.updated") => item(&event["item"], None),
        Some("item.completed") => item(&event["item"], Some(counter)),
        Some("turn.completed") => {
            counter.turn(&event["usage"]);
            Meaning::Ended { text: None, denied: Vec::new() }
        }
        Some("message") if event["role"] == "assistant" => {
            Meaning::Progress(owned(&event["content"]))
        }
        Some("agent_event") => match event["event"]["type"].as_str() {
            Some("error") if event["event"]["recoverable"] == true => {
                Meaning::Passing(Facts::of_event(&event["event"]))
            }
            Some("error") => Meaning::Failure(Facts::of_event(&event["event"])),
            Some(_) | None => Meaning::Progress(None),
        },
        Some("run_result") => {
            counter.run_result(event);
            ended(event, event["finishReason"] == "error", &event["text"])
        }
        Some("result") => result(event, counter),
        Some(kind) if code_kind(&kind.to_ascii_lowercase()).is_some() => {
            Meaning::Failure(Facts::of_event(event))
        }
        Some(_) => Meaning::Other,
        None => without_type(event, counter),
    }
}

fn assistant(event: &Value, counter: &mut Counter) -> Meaning {
    let message = &event["message"];
    let parts = message["content"].as_array().into_iter().flatten();
    let texts = parts.filter_map(|part| part["text"].as_str());
    let text = texts.take(limits::LAST_LINES_MAX).collect::<Vec<_>>().join("\n");
    let code = event["error"].as_str();
    if code.is_some() || event["isApiErrorMessage"] == true {
        let status = event["apiErrorStatus"].as_u64();
        return Meaning::Failure(Facts::of_text(&text).with(code.unwrap_or_default(), status));
    }
    counter.message(message);
    Meaning::Progress((!text.is_empty()).then_some(text))
}

/// claude's word on a window: only what is rejected, and not paid for apart, is trouble.
fn window(info: &Value) -> Meaning {
    if info["status"] != "rejected" || info["isUsingOverage"] == true {
        return Meaning::Window(None);
    }
    let which = info["rateLimitType"].as_str().unwrap_or("of the account");
    let mut facts = Facts::of_event(info).with("usage_limit_reached", None);
    facts.texts.insert(0, format!("usage limit reached ({which})"));
    Meaning::Window(Some(facts))
}

/// codex: what the model did, once it is done.
fn item(item: &Value, counter: Option<&mut Counter>) -> Meaning {
    let kind = item["type"].as_str().or(item["item_type"].as_str()).unwrap_or_default();
    match kind {
        // A warning; the turn goes on.
        "error" => return Meaning::Other,
        "reasoning" | "todo_list" => return Meaning::Progress(None),
        _ => {}
    }
    if let Some(counter) = counter {
        counter.item();
    }
    let is_message = matches!(kind, "agent_message" | "assistant_message");
    Meaning::Progress(is_message.then(|| owned(&item["text"])).flatten())
}

/// `result` of claude and gemini.
fn result(event: &Value, counter: &mut Counter) -> Meaning {
    if event["stats"].is_object() {
        counter.stats(&event["stats"]);
    }
    if event["is_error"].is_boolean() || event["subtype"].is_string() {
        counter.result(event);
    }
    let subtype = event["subtype"].as_str().unwrap_or_default();
    let failed = event["is_error"] == true
        || event["status"] == "error"
        || (subtype.starts_with("error") && event["is_error"] != false);
    ended(event, failed, &event["result"])
}

fn ended(event: &Value, failed: bool, text: &Value) -> Meaning {
    if failed {
        return Meaning::Failure(Facts::of_event(event));
    }
    let denials = event["permission_denials"].as_array().into_iter().flatten();
    let names = denials.filter_map(|denial| owned(&denial["tool_name"]));
    let denied = names.take(limits::LAST_LINES_MAX).collect();
    Meaning::Ended { text: owned(text), denied }
}

/// A whole answer in one value, or the body of an error.
fn without_type(event: &Value, counter: &mut Counter) -> Meaning {
    if event["stats"].is_object() {
        counter.stats(&event["stats"]);
    }
    if event["is_error"].is_boolean() {
        return ended(event, event["is_error"] == true, &event["result"]);
    }
    let is_named = event["name"].as_str().is_some_and(|name| name.ends_with("Error"));
    if event["error"].is_object() || (is_named && event["data"].is_object()) {
        return Meaning::Failure(Facts::of_event(event));
    }
    // codex before its events had a type.
    match event["msg"]["type"].as_str() {
        Some("error" | "stream_error") => return Meaning::Failure(Facts::of_event(&event["msg"])),
        Some("agent_message") => return Meaning::Progress(owned(&event["msg"]["message"])),
        Some(_) | None => {}
    }
    match event["response"].as_str() {
        Some(_) => Meaning::Ended { text: owned(&event["response"]), denied: Vec::new() },
        None => Meaning::Other,
    }
}

fn owned(text: &Value) -> Option<String> {
    text.as_str().map(|text| tail(text, limits::LAST_WORDS_BYTES_MAX).to_string())
}

/// The end of a text, at most so many bytes of it.
pub(super) fn tail(text: &str, bytes_max: usize) -> &str {
    let from = text.len().saturating_sub(bytes_max);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    &text[from..]
}
