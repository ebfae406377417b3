//! Lines of a plain, gzip or zstd file, none of them longer than a limit.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// The first bytes of a gzip member (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The first bytes of a zstd frame (RFC 8878).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A reader that holds one line at a time.
pub struct Lines {
    input: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
    limit: usize,
}

/// What came next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A line that is not blank: see [`Lines::line`].
    Line,
    /// A line over the limit, which was passed over.
    TooLong,
    /// The input is at its end.
    End,
}

impl Lines {
    /// Opens a file; the encoding is told by its first bytes.
    pub fn open(path: &Path, limit: usize) -> io::Result<Self> {
        Self::new(File::open(path)?, limit)
    }

    /// Reads from anything.
    pub fn new(input: impl Read + Send + 'static, limit: usize) -> io::Result<Self> {
        Ok(Self {
            input: decoded(BufReader::new(input))?,
            line: Vec::new(),
            number: 0,
            limit,
        })
    }

    /// The line that was read last, without its end.
    #[must_use]
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Its number, counted from one.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line that is not blank.
    pub fn advance(&mut self) -> io::Result<Next> {
        loop {
            self.line.clear();
            let most = self.limit as u64 + 1;
            let read = (&mut self.input)
                .take(most)
                .read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(Next::End);
            }
            self.number += 1;
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
            } else if self.line.len() > self.limit {
                skip_line(&mut self.input)?;
                return Ok(Next::TooLong);
            }
            if !self.line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Next::Line);
            }
        }
    }
}

/// Drops input up to the end of the line without keeping it.
fn skip_line(input: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |at| at + 1);
        input.consume(taken);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// Chooses the decoder by the first bytes.
fn decoded(mut input: impl BufRead + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let start = input.fill_buf()?;
    if start.starts_with(&GZIP_MAGIC) {
        Ok(Box::new(BufReader::new(MultiGzDecoder::new(input))))
    } else if start.starts_with(&ZSTD_MAGIC) {
        let decoder = zstd::stream::read::Decoder::with_buffer(input)?;
        Ok(Box::new(BufReader::new(decoder)))
    } else {
        Ok(Box::new(input))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_line_of_any_length_never_takes_more_than_the_limit() {
        let input = Cursor::new(b"\n\nfirst\n".to_vec())
            .chain(io::repeat(b'x').take(1 << 20))
            .chain(Cursor::new(b"\nlast".to_vec()));
        let mut lines = Lines::new(input, 100).unwrap();
        assert_eq!(lines.advance().unwrap(), Next::Line);
        assert_eq!((lines.line(), lines.number()), (&b"first"[..], 3));
        assert_eq!(lines.advance().unwrap(), Next::TooLong);
        assert!(lines.line.capacity() < 1000);
        assert_eq!(lines.advance().unwrap(), Next::Line);
        assert_eq!((lines.line(), lines.number()), (&b"last"[..], 5));
        assert_eq!(lines.advance().unwrap(), Next::End);
    }
}
