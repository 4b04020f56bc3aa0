//! Servers on the loopback address: the real `docker-registry`, one file over HTTP, a Docker daemon's socket.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// bcrypt of `s3cret`, for `bob`.
const HTPASSWD: &str = "bob:$2b$04$wOORJ76qc5gRRIjwp/HvS.Di/pHr02F.qovG5bKAmvkBlIa2SZNkm\n";
pub const LOGIN: &str = "bob:s3cret";

/// Runs a program to its end; gives what it printed.
pub fn run(program: &str, package: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install it: apt-get install -y {package}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `skopeo copy`; an image at a registry here is reached without TLS and, where it wants one, with the login.
pub fn copy_image(flags: &[&str], source: &str, destination: &str) {
    let first = ["--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"];
    run("skopeo", "skopeo", &[&first[..], flags, &[source, destination]].concat());
}

/// A registry without TLS that ends with the test.
pub struct Registry {
    process: Child,
    pub host: String,
}

impl Registry {
    pub fn start(directory: &Path, with_login: bool) -> Registry {
        fs::create_dir(directory).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let at = |name: &str| directory.join(name);
        let mut configuration = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
            at("storage").display()
        );
        if with_login {
            fs::write(at("htpasswd"), HTPASSWD).unwrap();
            let path = at("htpasswd");
            configuration.push_str(&format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display()));
        }
        fs::write(at("configuration.yml"), configuration).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(at("configuration.yml"))
            .stdout(Stdio::null())
            .stderr(File::create(at("log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("docker-registry: {error}; install it: apt-get install -y docker-registry"));
        let registry = Registry { process, host };
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&registry.host).is_err() {
            let log = fs::read_to_string(at("log")).unwrap_or_default();
            assert!(Instant::now() < end, "docker-registry does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }
}

impl Registry {
    /// Pushes a manifest as it is; what it points to must be there.
    pub fn put_manifest(&self, name: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let head = format!(
            "PUT /v2/{name}/manifests/{tag} HTTP/1.1\r\nHost: {}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.host,
            bytes.len()
        );
        stream.write_all(&[head.as_bytes(), bytes].concat()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Answers each `GET` with the same file; lives as long as the test program.
pub fn serve_file(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            read_request(&stream);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    format!("http://{address}")
}

/// Serves the files below `root`. `meddle` is told the path and how often it was asked for before, and may change the bytes behind the
/// length that is promised, or the files themselves for what comes later.
pub fn serve_directory(root: &Path, mut meddle: impl FnMut(&str, usize, &mut Vec<u8>) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, root) = (listener.local_addr().unwrap(), root.to_path_buf());
    std::thread::spawn(move || {
        let mut asked: HashMap<String, usize> = HashMap::new();
        for mut stream in listener.incoming().flatten() {
            let path = read_request(&stream);
            let count = asked.entry(path.clone()).or_default();
            let file = fs::read(root.join(path.trim_start_matches('/')));
            let (status, mut body) = file.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            meddle(&path, *count, &mut body);
            *count += 1;
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    format!("http://{address}")
}

/// A Docker daemon that has one image, its archive at `archive`; gives the paths that it was asked for.
pub fn serve_daemon(socket: &Path, archive: Vec<u8>) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            seen.lock().unwrap().push(read_request(&stream));
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\n");
            let _ = write!(stream, "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", archive.len());
            let _ = stream.write_all(&archive).and_then(|()| stream.write_all(b"\r\n0\r\n\r\n"));
        }
    });
    asked
}

/// The path that is asked for.
fn read_request(stream: impl std::io::Read) -> String {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    lines.find(String::is_empty);
    first.split(' ').nth(1).unwrap_or_default().to_owned()
}
