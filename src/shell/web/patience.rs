//! A connection that ends when its client stops receiving.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client may receive nothing while bytes wait to be sent.
pub(super) const TAKE_LIMIT: Duration = Duration::from_secs(10);

/// Reads and writes like `inner`. A write that makes no progress for [`TAKE_LIMIT`] is an error.
pub(super) struct Patient<T> {
    inner: T,
    limit: Duration,
    /// The end of the limit, while a write waits.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<T> Patient<T> {
    pub(super) fn new(inner: T, limit: Duration) -> Self {
        Self { inner, limit, waits: None }
    }

    /// Passes on the result of a write, or ends it.
    fn wrote<R>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let until = Instant::now() + self.limit;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep_until(until)));
        match waits.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.wrote(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.wrote(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.inner).poll_shutdown(context);
        self.wrote(context, ended)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, parts);
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up_and_one_that_takes_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = Patient::new(ours, Duration::from_secs(3600));
        let sending = tokio::spawn(async move { ours.write_all(&[7; 256]).await });
        theirs.read_exact(&mut [0; 256]).await.expect("all of it");
        sending.await.expect("the task ends").expect("all was taken");
        let (ours, theirs) = tokio::io::duplex(64);
        let mut ours = Patient::new(ours, Duration::ZERO);
        let sent = tokio::time::timeout(Duration::from_secs(60), ours.write_all(&[7; 256])).await;
        let refused = sent.expect("it is given up").expect_err("nobody takes it");
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }

    /// The limit is for a client that receives nothing, not for the duration of the whole answer.
    #[tokio::test]
    async fn each_byte_that_is_taken_begins_the_limit_anew() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut ours = Patient::new(ours, Duration::from_secs(3600));
        let context = &mut Context::from_waker(std::task::Waker::noop());
        for _ in 0..3 {
            assert!(matches!(Pin::new(&mut ours).poll_write(context, &[7; 4]), Poll::Ready(Ok(4))));
            assert!(Pin::new(&mut ours).poll_write(context, &[7; 4]).is_pending());
            let until = ours.waits.as_ref().expect("it waits").deadline();
            assert!(Pin::new(&mut ours).poll_write(context, &[7; 4]).is_pending());
            assert_eq!(
                ours.waits.as_ref().map(|waits| waits.deadline()),
                Some(until),
                "asking again gives no more time"
            );
            theirs.read_exact(&mut [0; 4]).await.expect("it is taken");
            assert!(matches!(Pin::new(&mut ours).poll_write(context, &[7; 1]), Poll::Ready(Ok(1))));
            assert!(ours.waits.is_none(), "it was taken, so nothing waits");
            theirs.read_exact(&mut [0; 1]).await.expect("it is taken");
        }
    }
}
