//! A connection that ends when its client takes nothing for too long, and that listens for a moment
//! before it closes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long, and for how many bytes, a connection listens before it closes: one that is closed with
/// bytes unread is reset, and its client may never see the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// How fast an answer must be taken once its client has made it wait, in bytes a second.
const LEAST_RATE: u64 = 16 * 1024;

/// A connection whose writes fail once nothing could be written for `patience`, or once an answer as
/// a whole takes longer than that and what it may at `LEAST_RATE`.
#[derive(Debug)]
pub(super) struct Patience<S> {
    stream: S,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
    /// The answer that is being taken, from the first time that it had to wait.
    taking: Option<Taking>,
    /// Bytes read since the end of the answers was sent.
    lingering: Option<usize>,
}

/// How far a slow client has come.
#[derive(Debug, Clone, Copy)]
struct Taking {
    since: Instant,
    bytes: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Patience<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            deadline: Box::pin(sleep(patience)),
            waiting: false,
            taking: None,
            lingering: None,
        }
    }

    /// Reads and forgets, until the client closes or has had its time.
    fn linger(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut room);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let seen = self.lingering.unwrap_or_default() + buffer.filled().len();
                    self.lingering = Some(seen);
                    if seen > LINGER_BYTES {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Ok(()))
    }

    fn count(&mut self, written: &Poll<io::Result<usize>>) {
        if let (Some(taking), Poll::Ready(Ok(bytes))) = (&mut self.taking, written) {
            taking.bytes += *bytes as u64;
        }
    }

    /// Passes a result on, unless it has been "not yet" for too long.
    fn bounded<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        if !self.waiting {
            self.waiting = true;
            let now = Instant::now();
            let taking = *self.taking.get_or_insert(Taking { since: now, bytes: 0 });
            let whole = taking.since + Duration::from_millis(taking.bytes * 1000 / LEAST_RATE);
            self.deadline.as_mut().reset(now.min(whole) + self.patience);
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(&polled);
        self.bounded(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count(&polled);
        self.bounded(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        // It is flushed when nothing is left in memory: the next answer has its own time.
        if polled.is_ready() {
            self.taking = None;
        }
        self.bounded(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            // With TLS there is something to send, which the client may not take.
            let polled = Pin::new(&mut self.stream).poll_shutdown(context);
            ready!(self.bounded(polled, context))?;
            self.lingering = Some(0);
            self.deadline.as_mut().reset(Instant::now() + LINGER);
        }
        self.linger(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// How long an answer of this many bytes lasts with a client that takes `part` every 20 seconds,
    /// and whether it was taken as a whole.
    async fn taken(bytes: usize, part: usize) -> (Duration, bool) {
        let (near, mut far) = duplex(part);
        let mut near = Patience::new(near, PATIENCE);
        let client = tokio::spawn(async move {
            let mut taken = vec![0; part];
            while far.read_exact(&mut taken).await.is_ok() {
                sleep(Duration::from_secs(20)).await;
            }
        });
        let start = Instant::now();
        let written = near.write_all(&vec![0; bytes]).await;
        client.abort();
        (start.elapsed(), written.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_taken_in_crumbs_is_given_up() {
        let (lasted, whole) = taken(1 << 20, 1024).await;
        assert!(!whole && lasted < 2 * PATIENCE, "{lasted:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_last_as_long_as_it_is_taken_at_the_least_rate() {
        let (lasted, whole) = taken(8 << 20, 512 * 1024).await;
        assert!(whole && lasted > 5 * PATIENCE, "{lasted:?}");
    }
}
