//! Credential helpers: the programs `docker-credential-NAME`.
//!
//! Source: docker/docker-credential-helpers, README ("get": server on standard input, JSON on standard output).

use super::{AuthError, Credential, Secret};
use serde::Deserialize;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

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
    let program = format!("docker-credential-{name}");
    let fault = |cause: String| AuthError::Helper { program: program.clone(), cause };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Err(fault("its name is not a plain program name".to_owned()));
    }
    let mut command = Command::new(&program);
    if let Some(path) = search_path {
        command.env("PATH", path);
    }
    let mut child = command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| fault(format!("{error}; is it installed and in PATH?")))?;
    let result = converse(&mut child, server, longest);
    if result.is_err() {
        // Already ended is as good as killed.
        let _ = child.kill();
        let _ = child.wait();
    }
    let (success, output) = result.map_err(fault)?;
    if !success {
        let text = String::from_utf8_lossy(&output);
        // Compat: the protocol has no other sign for "not there" than this sentence.
        if text.contains("credentials not found") {
            return Ok(None);
        }
        // What it printed could hold a secret and is not repeated.
        return Err(fault("it reported a failure; run it by hand to see why".to_owned()));
    }
    let answer: Answer =
        serde_json::from_slice(&output).map_err(|_| fault("its answer has another form than expected".to_owned()))?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    let secret = Secret::new(answer.secret);
    Ok(Some(match answer.user.as_str() {
        "<token>" => Credential::IdentityToken(secret),
        _ => Credential::Password { user: answer.user, password: secret },
    }))
}

/// Whether it succeeded, and what it printed.
fn converse(child: &mut Child, server: &str, longest: Duration) -> Result<(bool, Vec<u8>), String> {
    let end = Instant::now() + longest;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read its input may still answer.
        let _ = input.write_all(server.as_bytes());
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
