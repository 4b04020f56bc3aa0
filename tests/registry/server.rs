//! The real `docker-registry` on the loopback address, a private certificate authority, and a proxy that cuts connections.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// bcrypt of `s3cret`, for `bob`.
const HTPASSWD: &str = "bob:$2b$04$wOORJ76qc5gRRIjwp/HvS.Di/pHr02F.qovG5bKAmvkBlIa2SZNkm\n";

/// Runs a program to its end; gives what it printed.
pub fn run(program: &str, package: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install it: apt-get install -y {package}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A private authority (`ca.crt`) and a certificate for this machine's loopback address, in `directory`.
fn make_certificates(directory: &Path) {
    let at = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let openssl = |arguments: &[&str]| run("openssl", "openssl", arguments);
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
    openssl(&[&authority[..], &key, &["-keyout", &at("ca.key"), "-out", &at("ca.crt")]].concat());
    fs::write(at("extensions"), "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n").unwrap();
    let request = ["req", "-subj", "/CN=localhost", "-keyout", &at("server.key"), "-out", &at("server.csr")];
    openssl(&[&request[..], &key].concat());
    let sign =
        ["x509", "-req", "-in", &at("server.csr"), "-CA", &at("ca.crt"), "-CAkey", &at("ca.key"), "-CAcreateserial"];
    openssl(&[&sign[..], &["-days", "2", "-extfile", &at("extensions"), "-out", &at("server.crt")]].concat());
}

/// A registry that ends with the test.
pub struct Registry {
    process: Child,
    pub host: String,
    directory: PathBuf,
}

impl Registry {
    /// Without TLS, open to everybody.
    pub fn open(directory: &Path) -> Registry {
        Registry::start(directory, false)
    }

    /// With TLS by a private authority, for `bob` with the password `s3cret` only.
    pub fn closed(directory: &Path) -> Registry {
        Registry::start(directory, true)
    }

    fn start(directory: &Path, closed: bool) -> Registry {
        fs::create_dir(directory).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let at = |name: &str| directory.join(name).display().to_string();
        let mut configuration = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  delete:\n    enabled: true\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
            at("storage")
        );
        if closed {
            make_certificates(directory);
            fs::write(at("htpasswd"), HTPASSWD).unwrap();
            configuration.push_str(&format!(
                "  tls:\n    certificate: {}\n    key: {}\nauth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                at("server.crt"),
                at("server.key"),
                at("htpasswd")
            ));
        }
        fs::write(at("configuration.yml"), configuration).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(at("configuration.yml"))
            .stdout(Stdio::null())
            .stderr(File::create(at("log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("docker-registry: {error}; install it: apt-get install -y docker-registry"));
        let registry = Registry { process, host, directory: directory.to_path_buf() };
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&registry.host).is_err() {
            let log = fs::read_to_string(at("log")).unwrap_or_default();
            assert!(Instant::now() < end, "docker-registry does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// A manifest as the registry has it, without TLS and login.
    pub fn manifest(&self, name: &str, identifier: &str) -> serde_json::Value {
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let head = format!(
            "GET /v2/{name}/manifests/{identifier} HTTP/1.0\r\nHost: {}\r\nAccept: {accept}\r\n\r\n",
            self.host
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Passes connections on, and cuts each after so many bytes from the client.
pub struct Proxy {
    pub host: String,
    received: Arc<AtomicU64>,
    cuts: Arc<AtomicU64>,
}

impl Proxy {
    pub fn start(target: &str, cut_after: u64) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (received, cuts) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (count, cut, target) = (Arc::clone(&received), Arc::clone(&cuts), target.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (count, cut) = (Arc::clone(&count), Arc::clone(&cut));
                std::thread::spawn(move || {
                    let mut left = cut_after;
                    let mut buffer = vec![0; 64 << 10];
                    while left > 0 {
                        let most = buffer.len().min(left as usize);
                        match from_client.read(&mut buffer[..most]) {
                            Ok(0) | Err(_) => break,
                            Ok(length) => {
                                count.fetch_add(length as u64, Ordering::SeqCst);
                                left -= length as u64;
                                if to_server.write_all(&buffer[..length]).is_err() {
                                    break;
                                }
                            }
                        }
                    }
                    if left == 0 {
                        cut.fetch_add(1, Ordering::SeqCst);
                    }
                    let _ = (from_client.shutdown(Shutdown::Both), to_server.shutdown(Shutdown::Both));
                });
                let (mut from_server, mut to_client) = (server, client);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from_server, &mut to_client);
                    let _ = to_client.shutdown(Shutdown::Both);
                });
            }
        });
        Proxy { host, received, cuts }
    }

    /// Bytes from clients.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }

    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }
}
