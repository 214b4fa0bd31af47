//! A scripted stand-in for a language model, so the tests can run the real `opencode` offline.
//!
//! It speaks as much of the OpenAI chat-completions protocol, streamed as server-sent events, as
//! `opencode` 1.18.33 needs through its bundled `@ai-sdk/openai-compatible` provider.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

/// A long conversation with every tool's description is some 100 KiB; this leaves ample room.
const REQUEST_BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
const REQUEST_HEAD_BYTES_MAX: u64 = 64 * 1024;
const CONNECTION_COUNT_MAX: usize = 64;
const SOCKET_TIMEOUT: Duration = Duration::from_secs(10);
const BASH_TOOL_TIMEOUT_MS: u64 = 600_000;
const MODEL_NAME: &str = "scripted";

/// What the model says to one request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A call of the `bash` tool. `opencode` runs the command and asks the model again.
    Bash {
        /// The text handed to the shell.
        command: String,
    },
    /// Text that ends the turn, and with it `opencode run`.
    Text(String),
}

/// A model that answers from a script until it is dropped.
///
/// One script serves every client of the server, in the order in which requests arrive, so a test
/// whose agents run side by side wants a server for each.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    conversation: Mutex<Conversation>,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Conversation {
    script: VecDeque<Reply>,
    requests: Vec<Value>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    thread: JoinHandle<()>,
}

impl ModelServer {
    /// Listens on a free loopback port and answers from `script`, one reply for each request with
    /// tools. After the last reply it says "done".
    ///
    /// Requests without tools come from helpers such as the one that names sessions. They get a
    /// short text and use up nothing.
    pub fn start(script: Vec<Reply>) -> ModelServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a loopback port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            conversation: Mutex::new(Conversation { script: script.into(), requests: Vec::new() }),
            stopping: AtomicBool::new(false),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept_until_stopped(&listener, &shared)
        });
        ModelServer { address, shared, acceptor: Some(acceptor) }
    }

    /// The base of the API, `http://127.0.0.1:PORT/v1`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The bodies of all requests so far, oldest first, those without tools included.
    pub fn requests(&self) -> Vec<Value> {
        self.shared.conversation().requests.clone()
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // `accept` has no timeout of its own; one more connection wakes it to see the flag.
        let woken = TcpStream::connect_timeout(&self.address, SOCKET_TIMEOUT);
        if let (Ok(_), Some(acceptor)) = (woken, self.acceptor.take()) {
            // A panic over there was already printed, and a second one here would abort.
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    // A panic on one connection must not hide the requests that explain it.
    fn conversation(&self) -> MutexGuard<'_, Conversation> {
        self.conversation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the request and gives the events that answer it.
    fn answer(&self, request: Value) -> String {
        let with_tools = carries_tools(&request);
        let mut conversation = self.conversation();
        conversation.requests.push(request);
        let reply = if with_tools {
            conversation.script.pop_front().unwrap_or_else(|| Reply::Text("done".to_owned()))
        } else {
            Reply::Text("scripted title".to_owned())
        };
        stream_of(&reply, conversation.requests.len())
    }
}

/// Whether a request body offers tools, as those of the agent do and those of helpers do not.
pub fn carries_tools(request: &Value) -> bool {
    request["tools"].as_array().is_some_and(|tools| !tools.is_empty())
}

/// The text of a file for `OPENCODE_CONFIG` that leaves the server at `url` as the only model.
///
/// The prices are set so that every step costs something: one dollar a million tokens read, two a
/// million written.
pub fn opencode_config(url: &str) -> String {
    let model = format!("fake/{MODEL_NAME}");
    let config = json!({
        "$schema": "https://opencode.ai/config.json",
        "model": &model,
        "small_model": &model,
        "enabled_providers": ["fake"],
        "autoupdate": false,
        "share": "disabled",
        "provider": {
            "fake": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "Fake",
                "options": { "baseURL": url, "apiKey": "none" },
                "models": {
                    MODEL_NAME: {
                        "name": "Scripted",
                        "tool_call": true,
                        "limit": { "context": 128_000, "output": 8_192 },
                        "cost": { "input": 1.0, "output": 2.0 },
                    },
                },
            },
        },
    });
    config.to_string()
}

/// The variables to set for `opencode`, so that it keeps all its files below `home`, reads the
/// configuration file `config`, and does not reach for the network.
///
/// They add to the caller's environment. `PWD` is for the caller to set, since `opencode` works in
/// the folder it names rather than in its current one.
pub fn opencode_env(home: &Path, config: &Path) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_str().expect("test paths are UTF-8").to_owned();
    let mut environment = vec![
        ("HOME".to_owned(), text(home)),
        ("OPENCODE_CONFIG".to_owned(), text(config)),
        // In a fresh home `opencode` installs its plugin package from the npm registry, behind the
        // back of the run; no switch of its own stops that.
        ("npm_config_offline".to_owned(), "true".to_owned()),
        // A proxy of the machine would otherwise get the requests meant for loopback.
        ("NO_PROXY".to_owned(), "127.0.0.1,localhost".to_owned()),
        ("no_proxy".to_owned(), "127.0.0.1,localhost".to_owned()),
    ];
    for (name, folder) in [
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_CACHE_HOME", ".cache"),
    ] {
        environment.push((name.to_owned(), text(&home.join(folder))));
    }
    for name in [
        "OPENCODE_DISABLE_PROJECT_CONFIG",
        "OPENCODE_DISABLE_MODELS_FETCH",
        "OPENCODE_DISABLE_AUTOUPDATE",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS",
        "OPENCODE_DISABLE_LSP_DOWNLOAD",
    ] {
        environment.push((name.to_owned(), "1".to_owned()));
    }
    environment
}

fn accept_until_stopped(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections: Vec<Connection> = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        connections.retain(|connection| !connection.thread.is_finished());
        if connections.len() >= CONNECTION_COUNT_MAX {
            continue;
        }
        let Ok(reading) = stream.try_clone() else {
            continue;
        };
        let shared = Arc::clone(shared);
        // A client that hangs up half way is its own business: the test sees what it did.
        let thread = thread::spawn(move || drop(serve(reading, &shared)));
        connections.push(Connection { stream, thread });
    }
    for connection in connections {
        // This ends a read or a write under way, so the join does not wait for its timeout.
        let _ = connection.stream.shutdown(Shutdown::Both);
        let _ = connection.thread.join();
    }
}

/// Answers one request, then closes: a client that wants more connects again.
fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
    stream.set_write_timeout(Some(SOCKET_TIMEOUT))?;
    let mut reader = BufReader::new(stream);
    let (status, content_type, body) = match read_request(&mut reader) {
        Ok(request) => ("200 OK", "text/event-stream", shared.answer(request)),
        // 4xx, because `opencode` repeats itself for more than a minute after a 5xx.
        Err(error) => ("400 Bad Request", "text/plain", error.to_string()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let stream = reader.get_mut();
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.shutdown(Shutdown::Both)
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Value> {
    let mut head = reader.take(REQUEST_HEAD_BYTES_MAX);
    let request_line = read_head_line(&mut head)?;
    if !request_line.starts_with("POST /v1/chat/completions ") {
        return Err(io::Error::other(format!("no such thing here: {request_line}")));
    }
    let mut body_bytes: Option<u64> = None;
    loop {
        let line = read_head_line(&mut head)?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            body_bytes = value.trim().parse().ok();
        }
    }
    let body_bytes = body_bytes
        .filter(|&bytes| bytes <= REQUEST_BODY_BYTES_MAX)
        .ok_or_else(|| io::Error::other("content-length is missing or too large"))?;
    let mut body = Vec::new();
    reader.take(body_bytes).read_to_end(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

fn read_head_line(head: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    head.read_line(&mut line)?;
    // The end of the connection, or of the allowance, also shows as a line without its end.
    let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(line.to_owned())
}

/// The `number` tells the tool calls of a conversation apart.
fn stream_of(reply: &Reply, number: usize) -> String {
    let (delta, finish_reason) = match reply {
        Reply::Bash { command } => (tool_call(command, number), "tool_calls"),
        Reply::Text(text) => (json!({ "role": "assistant", "content": text }), "stop"),
    };
    let usage = json!({ "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110 });
    let chunks = [
        json!([{ "index": 0, "delta": delta, "finish_reason": null }]),
        // Without a reason to finish, `opencode` asks again for ever.
        json!([{ "index": 0, "delta": {}, "finish_reason": finish_reason }]),
    ];
    let mut events = String::new();
    for choices in chunks {
        let chunk = json!({
            "id": "chatcmpl-scripted",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": MODEL_NAME,
            "choices": choices,
            "usage": &usage,
        });
        events.push_str(&format!("data: {chunk}\n\n"));
    }
    events.push_str("data: [DONE]\n\n");
    events
}

fn tool_call(command: &str, number: usize) -> Value {
    let arguments = json!({
        "command": command,
        // The tool stops commands after two minutes unless told otherwise.
        "timeout": BASH_TOOL_TIMEOUT_MS,
    });
    json!({
        "role": "assistant",
        "content": null,
        "tool_calls": [{
            "index": 0,
            "id": format!("call_{number}"),
            "type": "function",
            // The protocol carries the arguments as JSON in a string.
            "function": { "name": "bash", "arguments": arguments.to_string() },
        }],
    })
}
