//! Credential helpers: the programs `docker-credential-NAME`.
//!
//! Source: docker/docker-credential-helpers, README ("get", "store", "erase": server or JSON on standard input, JSON on standard output).

use super::{AuthError, Credential, Secret};
use serde::Deserialize;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PREFIX: &str = "docker-credential-";
/// A helper that says more is not believed.
const LARGEST_ANSWER: u64 = 64 << 10;
/// A helper may ask a server or unlock a key ring, but no build waits for a person.
const LONGEST_RUN: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// Lets the helper keep a password.
pub fn store(name: &str, server: &str, user: &str, password: &Secret) -> Result<(), AuthError> {
    let text = serde_json::json!({"ServerURL": server, "Username": user, "Secret": password.reveal()}).to_string();
    match ask(name, "store", &text, LONGEST_RUN, None)? {
        (true, _) => Ok(()),
        _ => Err(failed(name)),
    }
}

/// Lets the helper forget a server; whether it knew it.
pub fn erase(name: &str, server: &str) -> Result<bool, AuthError> {
    match ask(name, "erase", server, LONGEST_RUN, None)? {
        (true, _) => Ok(true),
        (false, output) if is_not_found(&output) => Ok(false),
        _ => Err(failed(name)),
    }
}

/// Asks the helper; absent when it knows no credential for the server.
pub fn get(name: &str, server: &str) -> Result<Option<Credential>, AuthError> {
    get_in(name, server, LONGEST_RUN, None)
}

/// With another search path than the process's own.
pub(super) fn get_in(
    name: &str,
    server: &str,
    longest: Duration,
    search_path: Option<&str>,
) -> Result<Option<Credential>, AuthError> {
    let fault = |cause: &str| AuthError::Helper { program: format!("{PREFIX}{name}"), cause: cause.to_owned() };
    let (success, output) = ask(name, "get", server, longest, search_path)?;
    if !success {
        return if is_not_found(&output) { Ok(None) } else { Err(failed(name)) };
    }
    let answer: Answer =
        serde_json::from_slice(&output).map_err(|_| fault("its answer has another form than expected"))?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    let secret = Secret::new(answer.secret);
    Ok(Some(match answer.user.as_str() {
        "<token>" => Credential::IdentityToken(secret),
        _ => Credential::Password { user: answer.user, password: secret },
    }))
}

/// Compat: the protocol has no other sign for "not there" than this sentence.
fn is_not_found(output: &[u8]) -> bool {
    String::from_utf8_lossy(output).contains("credentials not found")
}

/// What it printed could hold a secret and is not repeated.
fn failed(name: &str) -> AuthError {
    let cause = "it reported a failure; run it by hand to see why".to_owned();
    AuthError::Helper { program: format!("{PREFIX}{name}"), cause }
}

/// Runs the helper; whether it succeeded, and what it printed.
fn ask(
    name: &str,
    action: &str,
    input: &str,
    longest: Duration,
    search_path: Option<&str>,
) -> Result<(bool, Vec<u8>), AuthError> {
    let program = format!("{PREFIX}{name}");
    let fault = |cause: String| AuthError::Helper { program: program.clone(), cause };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Err(fault("its name is not a plain program name".to_owned()));
    }
    let mut command = Command::new(&program);
    if let Some(path) = search_path {
        command.env("PATH", path);
    }
    let mut child = command
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| fault(format!("{error}; is it installed and in PATH?")))?;
    let result = converse(&mut child, input, longest);
    if result.is_err() {
        // Already ended is as good as killed.
        let _ = child.kill();
        let _ = child.wait();
    }
    result.map_err(fault)
}

/// Whether it succeeded, and what it printed.
fn converse(child: &mut Child, text: &str, longest: Duration) -> Result<(bool, Vec<u8>), String> {
    let end = Instant::now() + longest;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read its input may still answer.
        let _ = input.write_all(text.as_bytes());
    }
    let output = child.stdout.take().ok_or("it has no output")?;
    let (sender, receiver) = mpsc::channel();
    // Its own thread, because a grandchild may keep the pipe open for ever.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = output.take(LARGEST_ANSWER + 1).read_to_end(&mut bytes).map(|_| bytes);
        let _ = sender.send(result);
    });
    let bytes = receiver
        .recv_timeout(longest)
        .map_err(|_| format!("no answer within {} s", longest.as_secs_f64()))?
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST_ANSWER {
        return Err("its answer is too long".to_owned());
    }
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok((status.success(), bytes)),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => return Err(format!("it did not end within {} s", longest.as_secs_f64())),
            Err(error) => return Err(error.to_string()),
        }
    }
}
