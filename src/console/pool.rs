//! The threads that answer questions: few, with a bounded queue, a time limit, and an end when the reader leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use super::feed::step_back;
use crate::drive::stop::Stop;

/// Threads that answer questions. [1]
const THREADS: usize = 2;
/// Questions that wait for a thread. Further ones are refused at once. [1]
const QUESTIONS_WAITING: usize = 32;
/// How long a question may take, from the moment that a thread begins.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

type Job = Box<dyn FnOnce() + Send>;

/// The threads. They end when the last clone is dropped.
#[derive(Clone)]
pub struct Pool {
    jobs: Sender<Job>,
}

/// The queue is full, or the thread of the question panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnswered;

/// Stops the question on its thread when the reader is dropped, because nothing waits for the answer any more.
struct Reader(Arc<AtomicBool>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Pool {
    /// Starts the threads. In a service they have a lower priority than the threads of the service.
    pub fn start(is_in_service: bool) -> Self {
        let (jobs, waiting) = bounded::<Job>(QUESTIONS_WAITING);
        for _ in 0..THREADS {
            let waiting: Receiver<Job> = waiting.clone();
            thread::spawn(move || {
                if is_in_service {
                    step_back();
                }
                for job in waiting {
                    // A question that panics ends alone: its reader gets an error page.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                }
            });
        }
        Self { jobs }
    }

    /// Answers a question on a thread. If the returned future is dropped, the question ends.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, NotAnswered> {
        let (answer, answered) = oneshot::channel();
        let has_left = Arc::new(AtomicBool::new(false));
        let reader = Reader(Arc::clone(&has_left));
        let job: Job = Box::new(move || {
            if !has_left.load(Ordering::Relaxed) {
                let _ = answer.send(question(&Stop::after(ANSWER_LIMIT, has_left)));
            }
        });
        self.jobs.try_send(job).map_err(|_| NotAnswered)?;
        let answer = answered.await.map_err(|_| NotAnswered);
        drop(reader);
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::drive::stop::Stopped;

    /// Polls the question once, so that it begins to wait for its answer.
    fn polled<F: Future>(question: Pin<&mut F>) -> Poll<F::Output> {
        question.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_question_ends_when_its_reader_leaves_and_a_full_queue_refuses() {
        let pool = Pool::start(false);
        let (ended, ends) = bounded(1);
        let (begun, begins) = bounded(1);
        let question = pool.ask(move |stop| {
            let _ = begun.send(());
            let why = loop {
                if let Err(why) = stop.check() {
                    break why;
                }
            };
            let _ = ended.send(why);
        });
        {
            tokio::pin!(question);
            let now = polled(question.as_mut());
            assert!(now.is_pending());
            assert_eq!(begins.recv(), Ok(()), "a thread works on it");
        }
        assert_eq!(ends.recv(), Ok(Stopped::Left), "the reader was dropped");
        // Both threads wait here until the gate opens, so the queue fills up.
        let (gate, opened) = bounded::<()>(0);
        let mut asked = Vec::new();
        let mut refused = 0;
        for _ in 0..THREADS + QUESTIONS_WAITING + 1 + THREADS {
            let opened = opened.clone();
            let mut question = Box::pin(pool.ask(move |_| opened.recv().is_err()));
            match polled(question.as_mut()) {
                Poll::Ready(Err(NotAnswered)) => refused += 1,
                _ => asked.push(question),
            }
        }
        assert!(refused >= 1, "none of {} questions was refused", asked.len());
        assert!(asked.len() <= THREADS + QUESTIONS_WAITING);
        drop(gate);
        for question in asked {
            assert_eq!(question.await, Ok(true));
        }
        assert_eq!(pool.ask(|_| panic!("a question of a test panics")).await.map(|(): ()| ()), Err(NotAnswered));
        assert_eq!(pool.ask(|_| 7).await, Ok(7), "the threads go on");
    }
}
