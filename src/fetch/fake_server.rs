//! A small HTTP/1.1 server for tests that misbehaves as told: cut connections, lies about lengths, endless bodies, silence.

use super::client::{Client, ClientOptions};
use super::http::Url;
use super::retry::Patience;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The connection was cut while the body arrived.
    pub cut: bool,
}

impl Asked {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub cut_after: Option<usize>,
    /// Leave `Content-Length` out.
    pub without_length: bool,
    /// Repeat the body until the client goes away.
    pub endless: bool,
    /// Send nothing more for so long after the body (or its cut part), or each repetition.
    pub silence: Option<Duration>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: body.into(),
            cut_after: None,
            without_length: false,
            endless: false,
            silence: None,
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The whole content, or the range asked for, as a good server does.
    pub fn file(asked: &Asked, content: &[u8], tag: &str) -> Answer {
        let start = asked
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let current = asked.header("if-range").is_none_or(|validator| validator == tag);
        match start {
            Some(start) if start >= content.len() => Answer::new(416, ""),
            Some(start) if current => Answer::new(206, &content[start..])
                .header("Content-Range", format!("bytes {start}-{}/{}", content.len() - 1, content.len()))
                .header("ETag", tag),
            _ => Answer::new(200, content).header("ETag", tag),
        }
    }
}

pub struct FakeServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
}

impl FakeServer {
    /// The handler gets the request and how many came before it.
    pub fn start(handler: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> FakeServer {
        FakeServer::start_cutting(usize::MAX, handler)
    }

    /// Cuts connections after so many bytes of a request's body; the handler gets what arrived, and its answer is lost.
    pub fn start_cutting(most: usize, handler: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (log, end, handler) = (Arc::clone(&asked), Arc::clone(&ended), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (log, handler) = (Arc::clone(&log), Arc::clone(&handler));
                std::thread::spawn(move || stream.map(|stream| serve(stream, most, &log, &*handler)));
            }
        });
        FakeServer { address, asked, ended }
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    mut stream: TcpStream,
    most: usize,
    log: &Mutex<Vec<Asked>>,
    handler: &dyn Fn(&Asked, usize) -> Answer,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        // TLS, most likely. What a web server answers to it is this.
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").ok();
    }
    let mut words = line.split(' ');
    let mut asked = Asked { method: words.next()?.to_owned(), target: words.next()?.to_owned(), ..Asked::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length.min(most)];
    reader.read_exact(&mut body).ok()?;
    asked.cut = length > most;
    asked.body = String::from_utf8(body).ok()?;
    let before = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    let answer = handler(&asked, before);
    if asked.cut {
        return None;
    }
    let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", answer.status);
    if !answer.without_length && !answer.endless {
        head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
    }
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(b"\r\n").ok()?;
    loop {
        stream.write_all(&answer.body[..answer.cut_after.unwrap_or(answer.body.len())]).ok()?;
        if !answer.endless {
            break;
        }
        std::thread::sleep(answer.silence.unwrap_or_default());
    }
    stream.flush().ok()?;
    if let Some(silence) = answer.silence {
        std::thread::sleep(silence);
    }
    Some(())
}

/// A client that waits little and asks no proxy.
pub fn client() -> Client {
    let patience = Patience {
        retries: 3,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_secs(5),
        jitter: false,
    };
    let options = ClientOptions {
        environment_proxies: false,
        stall_timeout: Duration::from_secs(5),
        patience,
        ..ClientOptions::default()
    };
    Client::new(options).unwrap()
}
