//! Work on all cores, with answers in the order of the questions.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Applies `work` to every item on `threads` threads; none when told to stop on the way.
pub fn map<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    stop: &AtomicBool,
    work: impl Fn(&T) -> R + Sync,
) -> Option<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else {
                        return;
                    };
                    let answer = work(item);
                    *done[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                }
            });
        }
    });
    let answers = done.into_iter();
    answers
        .map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_the_order_on_any_number_of_threads() {
        let items: Vec<u64> = (0..50).collect();
        let squares: Vec<u64> = items.iter().map(|item| item * item).collect();
        for threads in [0, 1, 3, 100] {
            let found = map(&items, threads, &AtomicBool::new(false), |item| item * item);
            assert_eq!(found.as_ref(), Some(&squares));
        }
    }

    #[test]
    fn a_stop_ends_it_without_answers() {
        let stop = AtomicBool::new(false);
        let found = map(&[1, 2, 3], 1, &stop, |item| {
            stop.store(*item == 2, Ordering::Relaxed);
        });
        assert_eq!(found, None);
    }
}
