//! What hostile clients cost: a process of its own for each kind of them, and the most memory that it
//! ever had.
//!
//! That each is answered, and how, is in `slow` and `too_much`; here they come in numbers.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;

use futures_util::future::join_all;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::socket::{LONG, head};

/// Little patience, and room for few bodies: what must suffice for all of them together.
const CONFIG: &str = "
[connections]
head_timeout = 2
write_timeout = 2
[service]
body_timeout = 2
max_messages_post_size = 4194304
max_body_bytes_in_flight = 16777216
";
/// The most that any of them may cost, in bytes: the bodies, and as much again for all else.
const MOST: u64 = 32 << 20;
const MESSAGES: &str = "/v2/queues/q/messages";
const CLOSE: &str = "Connection: close\r\n";

struct Service {
    process: Child,
    address: SocketAddr,
    memory_before: u64,
    _config: NamedTempFile,
}

impl Service {
    async fn start() -> Self {
        let mut config = NamedTempFile::new().unwrap();
        config.write_all(CONFIG.as_bytes()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_roundelay"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(config.path());
        command.env_remove("ROUNDELAY_NODES").env_remove("ROUNDELAY_TOKENS");
        let mut process = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines();
        let line = said.next_line().await.unwrap().unwrap();
        let (_, rest) = line.split_once("http://").expect("it tells its address");
        let address = rest.split(',').next().unwrap().parse().unwrap();
        // Its log must go somewhere, or it would wait for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        let mut service = Self { process, address, memory_before: 0, _config: config };
        service.is_alive().await;
        service.memory_before = service.most_memory();
        service
    }

    /// The most memory that the process has had, in bytes.
    fn most_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id().expect("it is gone"));
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Sends what it is given, as far as that is taken; returns the beginning of what comes back until
    /// the connection ends.
    async fn send(&self, parts: impl IntoIterator<Item = Vec<u8>>) -> String {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let sending = async {
            for part in parts {
                if writer.write_all(&part).await.is_err() {
                    return;
                }
            }
        };
        let mut answer = vec![0; 4096];
        let mut taken = 0;
        let reading = async {
            while let Ok(len @ 1..) = reader.read(&mut answer[taken..]).await {
                taken += len;
            }
        };
        timeout(LONG, async { tokio::join!(sending, reading) }).await.expect("no end");
        answer.truncate(taken);
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn is_alive(&self) {
        let answer = self.send([head("GET", "/v2/ping", CLOSE).into_bytes()]).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }

    /// Asserts that what happened cost little memory, and that the service is alive.
    async fn is_well(&self, who: &str) {
        self.is_alive().await;
        let grown = self.most_memory() - self.memory_before;
        println!("{who}: {} KiB more than {} KiB", grown / 1024, self.memory_before / 1024);
        assert!(grown < MOST, "{who} cost {grown} bytes");
    }
}

/// Whether an answer has this status, or there is none: a client that goes on sending may not see it.
fn is(answer: &str, statuses: &[u16]) -> bool {
    answer.is_empty()
        || statuses.iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status} ")))
}

#[tokio::test]
async fn slow_clients_cost_little_memory() {
    let service = Service::start().await;
    let message = format!("{{\"body\": \"{}\"}}", "x".repeat(250_000));
    let body = format!("{{\"messages\": [{}]}}", [message.as_str(); 4].join(","));
    let post = head("POST", MESSAGES, &format!("{CLOSE}Content-Length: {}\r\n", body.len()));
    let posted = service.send([post.clone().into_bytes(), body.into_bytes()]).await;
    assert!(posted.starts_with("HTTP/1.1 201"), "{posted}");
    // Each sends a byte every now and then and would do so for ever: of a head, of a body, or takes
    // nothing of an answer.
    let address = service.address;
    let dripping = |start: String, byte: u8| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut drip = tokio::time::interval(std::time::Duration::from_millis(100));
        let mut answer = [0; 16];
        loop {
            drip.tick().await;
            if stream.write_all(&[byte]).await.is_err()
                || matches!(stream.try_read(&mut answer), Ok(0..))
            {
                return;
            }
        }
    };
    let stuck = || async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let list = head("GET", &format!("{MESSAGES}?echo=true&limit=20"), "");
        for _ in 0..20 {
            drop(stream.write_all(list.as_bytes()).await);
        }
        // Until it is thrown out it takes nothing.
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let heads = join_all((0..200).map(|_| dripping("GET /v2/ping HTTP/1.1\r\nX: ".into(), b'a')));
    let bodies = join_all((0..200).map(|_| dripping(post.clone(), b' ')));
    let answers = join_all((0..10).map(|_| stuck()));
    timeout(LONG, async { tokio::join!(heads, bodies, answers) }).await.expect("still there");
    service.is_well("slow clients").await;
}

#[tokio::test]
async fn bodies_of_a_gigabyte_cost_little_memory() {
    let service = Service::start().await;
    let megabyte = vec![b' '; 1 << 20];
    let announced = format!("{CLOSE}Content-Length: {}\r\n", 1 << 30);
    let chunked = format!("{CLOSE}Transfer-Encoding: chunked\r\n");
    let chunk = [&b"100000\r\n"[..], &megabyte, b"\r\n"].concat();
    let attacks = ["messages", "claims", "purge", "share"].into_iter().flat_map(|part| {
        [(&announced, &megabyte), (&chunked, &chunk)].map(|(more, part_of_body)| {
            let start = head("POST", &format!("/v2/queues/q/{part}"), more).into_bytes();
            // One at a time: the client must not need a gigabyte either.
            let body = std::iter::repeat_with(move || part_of_body.clone()).take(1024);
            service.send(std::iter::once(start).chain(body))
        })
    });
    for answer in join_all(attacks).await {
        assert!(is(&answer, &[400, 413, 503]), "{answer}");
    }
    service.is_well("bodies of a gigabyte").await;
}

#[tokio::test]
async fn a_hundred_thousand_headers_cost_little_memory() {
    let service = Service::start().await;
    let many: String = (0..100_000).map(|n| format!("X-{n}: a\r\n")).collect();
    let request = head("GET", "/v2/ping", &many).into_bytes();
    let attacks = (0..50).map(|_| service.send([request.clone()]));
    for answer in join_all(attacks).await {
        assert!(is(&answer, &[431]), "{answer}");
    }
    service.is_well("a hundred thousand headers").await;
}

#[tokio::test]
async fn json_a_million_deep_costs_little_memory() {
    let service = Service::start().await;
    let (open, close) = ("[".repeat(1_000_000), "]".repeat(1_000_000));
    let deep = format!("{{\"messages\": [{{\"body\": {open}{close}}}]}}");
    let objects = format!("{{\"messages\": [{{\"body\": {}", "{\"\":".repeat(800_000));
    let packed = [&[0x91; 1_000_000][..], &[0xc0]].concat();
    let more = |kind: &str, len: usize| format!("{CLOSE}{kind}Content-Length: {len}\r\n");
    let msgpack = "Content-Type: application/msgpack\r\n";
    let requests = [("", deep.into_bytes()), ("", objects.into_bytes()), (msgpack, packed)];
    let attacks = requests.iter().cycle().take(30).map(|(kind, body)| {
        service.send([head("POST", MESSAGES, &more(kind, body.len())).into_bytes(), body.clone()])
    });
    for answer in join_all(attacks).await {
        // Not all of them have room at once.
        assert!(is(&answer, &[400, 503]), "{answer}");
    }
    service.is_well("JSON a million deep").await;
}

#[tokio::test]
async fn what_is_not_utf_8_costs_little_memory() {
    let service = Service::start().await;
    let body = [&b"{\"messages\": [{\"body\": \""[..], &[0xff; 1 << 20], b"\"}]}"].concat();
    let length = format!("{CLOSE}Content-Length: {}\r\n", body.len());
    let post = [head("POST", MESSAGES, &length).as_bytes(), &body[..]].concat();
    let path = format!("/v2/queues/{}?marker={}", "%FF".repeat(20), "%C0%AF".repeat(1000));
    let get = head("GET", &path, CLOSE).into_bytes();
    let attacks = (0..40).map(|n| {
        let request = if n % 2 == 0 { &post } else { &get };
        service.send([request.clone()])
    });
    for answer in join_all(attacks).await {
        assert!(is(&answer, &[400, 503]), "{answer}");
    }
    service.is_well("what is not UTF-8").await;
}
