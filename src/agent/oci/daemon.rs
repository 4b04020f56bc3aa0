//! One request to a Docker daemon: give me this image as an archive. Podman's service answers the same.
//!
//! Spec: Docker Engine API v1.24 and later, `GET /images/{name}/get`; RFC 9112 for what is needed of HTTP/1.1.

use super::{Context, Error};
use crate::oci::reference::Reference;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A daemon packs an image before it sends the first byte.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of all header lines together.
const MAXIMUM_HEAD: u64 = 64 << 10;
/// Bytes of an error's text that are read.
const MAXIMUM_MESSAGE: u64 = 16 << 10;

/// Saves an image into the work directory and gives the archive's path.
pub(super) fn save(name: &str, context: Context<'_>) -> Result<PathBuf, Error> {
    let image = image_name(name)?;
    let (stream, socket) = connect(context.docker_host)?;
    let fault = |cause: String| Error::Daemon { socket: socket.clone(), image: image.clone(), cause };
    let mut response = request(stream, &image).map_err(|error| fault(error.to_string()))?;
    if response.status != 200 {
        let mut text = Vec::new();
        response.body.take(MAXIMUM_MESSAGE).read_to_end(&mut text).map_err(|error| fault(error.to_string()))?;
        return Err(fault(message(response.status, &text)));
    }
    let work = |cause| Error::Io { path: context.work.to_path_buf(), cause };
    let mut file = tempfile::Builder::new().prefix("daemon-").suffix(".tar").tempfile_in(context.work).map_err(work)?;
    io::copy(&mut response.body, file.as_file_mut()).map_err(|error| fault(error.to_string()))?;
    let (_, path) = file.keep().map_err(|error| work(error.error))?;
    Ok(path)
}

/// A reference in full, or an image's id as it is.
fn image_name(name: &str) -> Result<String, Error> {
    let name = name.strip_prefix("//").unwrap_or(name);
    let id = name.strip_prefix("sha256:").unwrap_or(name);
    if (12..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(name.to_owned());
    }
    match Reference::parse(name) {
        Ok(reference) => Ok(reference.to_string()),
        Err(error) => Err(Error::DaemonName { name: error.text, cause: error.cause }),
    }
}

fn connect(host: Option<&str>) -> Result<(UnixStream, PathBuf), Error> {
    let sockets: Vec<PathBuf> = match host.filter(|host| !host.is_empty()) {
        Some(host) => match host.strip_prefix("unix://") {
            Some(path) => vec![PathBuf::from(path)],
            None => return Err(Error::DaemonAddress { address: host.chars().take(200).collect() }),
        },
        None => vec!["/var/run/docker.sock".into(), "/run/podman/podman.sock".into()],
    };
    let mut tried = Vec::new();
    for socket in sockets {
        match open_socket(&socket) {
            Ok(stream) => return Ok((stream, socket)),
            Err(error) => tried.push(format!("{}: {error}", socket.display())),
        }
    }
    Err(Error::NoDaemon { tried: tried.join("; ") })
}

fn open_socket(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

struct Response {
    status: u16,
    body: Box<dyn Read>,
}

fn request(mut stream: UnixStream, image: &str) -> io::Result<Response> {
    write!(
        stream,
        "GET /images/{image}/get HTTP/1.1\r\nHost: docker\r\nAccept: application/x-tar\r\nConnection: close\r\n\r\n"
    )?;
    stream.flush()?;
    read_response(BufReader::new(stream))
}

fn read_response(mut reader: impl BufRead + 'static) -> io::Result<Response> {
    let mut head = reader.by_ref().take(MAXIMUM_HEAD);
    let status_line = read_line(&mut head)?;
    let status = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    let status = status.and_then(|code| code.parse().ok()).ok_or_else(|| malformed("it does not speak HTTP"))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let line = read_line(&mut head)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("a header line has no colon"))?;
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<u64>().map_err(|_| malformed("its length is not a number"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    let body: Box<dyn Read> = match (chunked, length) {
        (true, _) => Box::new(Chunked { inner: reader, left: 0, state: ChunkState::First }),
        (false, Some(length)) => Box::new(Counted { inner: reader, left: length }),
        (false, None) => Box::new(reader),
    };
    Ok(Response { status, body })
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.take(8 << 10).read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\n").ok_or_else(|| malformed("its answer is cut off or too long"))?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8(line.to_vec()).map_err(|_| malformed("its answer is not text"))
}

fn malformed(cause: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause)
}

/// A body of known length; less is an error.
struct Counted<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.by_ref().take(self.left).read(buffer)?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(malformed("the connection ended too early"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// A body in chunks: `HEX\r\n`, bytes, `\r\n`, up to a chunk of length zero.
struct Chunked<R> {
    inner: R,
    left: u64,
    state: ChunkState,
}

#[derive(PartialEq)]
enum ChunkState {
    First,
    Following,
    Ended,
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.state == ChunkState::Ended {
            return Ok(0);
        }
        if self.left == 0 {
            if self.state == ChunkState::Following && !read_line(&mut self.inner)?.is_empty() {
                return Err(malformed("a chunk is longer than it says"));
            }
            self.state = ChunkState::Following;
            let line = read_line(&mut self.inner)?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            self.left =
                u64::from_str_radix(digits, 16).map_err(|_| malformed("the length of a chunk is not a number"))?;
            if self.left == 0 {
                self.state = ChunkState::Ended;
                return Ok(0);
            }
        }
        let count = self.inner.by_ref().take(self.left).read(buffer)?;
        if count == 0 {
            return Err(malformed("the connection ended too early"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// The daemon's own words, from `{"message": …}`.
fn message(status: u16, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Fault {
        message: String,
    }
    match serde_json::from_slice::<Fault>(body) {
        Ok(fault) => fault.message.chars().take(500).collect(),
        Err(_) => format!("it answers with status {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn body(response: &str) -> Result<String, String> {
        let response = read_response(Cursor::new(response.to_owned())).map_err(|error| error.to_string())?;
        let mut text = String::new();
        let mut body = response.body;
        body.read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok(format!("{} {text}", response.status))
    }

    #[test]
    fn reads_bodies_in_chunks_of_known_length_and_up_to_the_end() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!(body(chunked), Ok("200 abcde".to_owned()));
        assert_eq!(body("HTTP/1.1 404 Not\r\ncontent-length: 2\r\n\r\nnoXX"), Ok("404 no".to_owned()));
        assert_eq!(body("HTTP/1.0 200 OK\n\nrest"), Ok("200 rest".to_owned()));
    }

    #[test]
    fn answers_that_are_cut_off_or_wrong_are_errors() {
        for (response, cause) in [
            ("SSH-2.0\r\n", "it does not speak HTTP"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "the connection ended too early"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "the connection ended too early"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
                "a chunk is longer than it says",
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "the length of a chunk is not a number"),
            ("HTTP/1.1 200 OK\r\nhalf", "its answer is cut off or too long"),
        ] {
            assert_eq!(body(response), Err(cause.to_owned()), "{response}");
        }
    }

    #[test]
    fn names_are_checked_before_they_become_a_request() {
        assert_eq!(image_name("alpine").unwrap(), "docker.io/library/alpine:latest");
        assert_eq!(image_name("sha256:0123456789ab").unwrap(), "sha256:0123456789ab");
        assert!(image_name("a HTTP/1.1\r\nX: y").is_err());
        assert_eq!(
            connect(Some("tcp://localhost:2375")).unwrap_err().to_string(),
            "the Docker daemon's address \"tcp://localhost:2375\" is not supported: only unix:// sockets are"
        );
        let message = connect(Some("unix:///does/not/exist")).unwrap_err().to_string();
        assert!(message.starts_with("no Docker daemon answers: /does/not/exist: No such file"), "{message}");
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(tail in prop::collection::vec(any::<u8>(), 0..200), chunked in any::<bool>()) {
            let head = if chunked { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" } else { "" };
            let bytes = [head.as_bytes(), &tail].concat();
            if let Ok(mut response) = read_response(Cursor::new(bytes)) {
                let _ = io::copy(&mut response.body, &mut io::sink());
            }
        }
    }
}
