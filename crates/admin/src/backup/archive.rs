//! The container of a backup: an uncompressed tar archive in the ustar format of POSIX.1-1988, with sizes of 8 GiB and more in
//! the binary form that GNU tar and bsdtar read too.
//!
//! Only what a backup needs: regular files with short names. The reader refuses every other kind of entry, so that an archive
//! can neither create links nor leave its directory.

use std::io::{self, ErrorKind, Read, Write};

/// The unit of the format, in bytes. Contents are padded to it.
const BLOCK: usize = 512;

/// Sizes from here on do not fit into 11 octal digits.
const LARGE: u64 = 1 << 33;

/// The header fields that are used: their offset and their length.
const NAME: (usize, usize) = (0, 100);
const SIZE: (usize, usize) = (124, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const KIND: usize = 156;

/// A file in an archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Header {
    /// Its name, without a directory.
    pub(super) name: String,
    /// The size of its content, in bytes.
    pub(super) size: u64,
}

/// Appends a file. `time`: its modification time, in seconds since 1970.
pub(super) fn append(out: &mut impl Write, header: &Header, time: u64, content: &mut impl Read) -> io::Result<()> {
    out.write_all(&encode(header, time)?)?;
    let written = io::copy(&mut content.take(header.size), out)?;
    if written != header.size {
        return Err(malformed(format!("{} became shorter while it was copied", header.name)));
    }
    out.write_all(&[0; BLOCK][..padding(header.size)])
}

/// Ends an archive.
pub(super) fn finish(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// Reads the next header; `None` at the end of the archive, after which nothing may follow. Call [`read_content`] before the
/// next one.
pub(super) fn next(input: &mut impl Read) -> io::Result<Option<Header>> {
    let mut block = [0; BLOCK];
    input.read_exact(&mut block)?;
    if block != [0; BLOCK] {
        return decode(&block).map(Some);
    }
    input.read_exact(&mut block)?;
    if block != [0; BLOCK] || input.read(&mut [0])? != 0 {
        return Err(malformed("something follows the end of the archive"));
    }
    Ok(None)
}

/// Reads the content of a file into `sink`.
pub(super) fn read_content(input: &mut impl Read, header: &Header, sink: &mut impl Write) -> io::Result<()> {
    if io::copy(&mut input.take(header.size), sink)? != header.size {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let mut rest = [0; BLOCK];
    input.read_exact(&mut rest[..padding(header.size)])?;
    if rest != [0; BLOCK] {
        return Err(malformed(format!("something follows the content of {}", header.name)));
    }
    Ok(())
}

fn encode(header: &Header, time: u64) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    put(&mut block, NAME, header.name.as_bytes())?;
    put(&mut block, (100, 8), b"0000600\0")?;
    put(&mut block, (108, 8), b"0000000\0")?;
    put(&mut block, (116, 8), b"0000000\0")?;
    if header.size < LARGE {
        put(&mut block, SIZE, format!("{:011o}\0", header.size).as_bytes())?;
    } else {
        block[SIZE.0] = 0x80;
        put(&mut block, (SIZE.0 + 4, 8), &header.size.to_be_bytes())?;
    }
    put(&mut block, (136, 12), format!("{time:011o}\0").as_bytes())?;
    block[KIND] = b'0';
    put(&mut block, (257, 8), b"ustar\x0000")?;
    let sum = checksum_field(&block);
    put(&mut block, CHECKSUM, sum.as_bytes())?;
    Ok(block)
}

fn decode(block: &[u8; BLOCK]) -> io::Result<Header> {
    // Not only the number: every byte of a header must be as it was written.
    if field(block, CHECKSUM) != checksum_field(block).as_bytes() || field(block, (257, 5)) != b"ustar" {
        return Err(malformed("it is not a tar archive, or is damaged"));
    }
    let name = field(block, NAME).split(|byte| *byte == 0).next().unwrap_or_default();
    let name = str::from_utf8(name).map_err(|_| malformed("a name is not text"))?.to_owned();
    if block[KIND] != b'0' || name.is_empty() || name.contains('/') {
        return Err(malformed(format!("{name:?} is not a file without a directory")));
    }
    let size = field(block, SIZE);
    let size = match size.strip_prefix(&[0x80, 0, 0, 0]) {
        Some(large) => large.try_into().ok().map(u64::from_be_bytes),
        None => octal(size),
    };
    Ok(Header { size: size.ok_or_else(|| malformed(format!("the size of {name} cannot be read")))?, name })
}

/// The checksum of a header as it is written: the sum of all its bytes, with the checksum taken as spaces.
fn checksum_field(block: &[u8; BLOCK]) -> String {
    let is_checksum = |at: usize| (CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1).contains(&at);
    let sum: u32 = block.iter().enumerate().map(|(at, byte)| if is_checksum(at) { 32 } else { u32::from(*byte) }).sum();
    format!("{sum:06o}\0 ")
}

/// Reads octal digits that a NUL or a space ends.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.split(|byte| matches!(byte, 0 | b' ')).next()?;
    u64::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()
}

fn field(block: &[u8; BLOCK], (at, length): (usize, usize)) -> &[u8] {
    &block[at..at + length]
}

fn put(block: &mut [u8; BLOCK], (at, length): (usize, usize), bytes: &[u8]) -> io::Result<()> {
    if bytes.len() > length {
        return Err(malformed("a name or a number is too long"));
    }
    block[at..at + bytes.len()].copy_from_slice(bytes);
    Ok(())
}

/// The number of zero bytes after a content of this size.
const fn padding(size: u64) -> usize {
    // The remainder is below 512.
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}

fn malformed(problem: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem.into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn header(name: &str, size: u64) -> Header {
        Header { name: name.to_owned(), size }
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, content) in files {
            append(&mut archive, &header(name, content.len() as u64), 1, &mut &**content).unwrap();
        }
        finish(&mut archive).unwrap();
        archive
    }

    fn read(mut archive: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        while let Some(header) = next(&mut archive)? {
            let mut content = Vec::new();
            read_content(&mut archive, &header, &mut content)?;
            files.push((header.name, content));
        }
        Ok(files)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let long = vec![7; 1_000];
        let files: [(&str, &[u8]); 4] = [("a", b""), ("b", b"x"), ("c", &[9; 512]), ("d", &long)];
        let found = read(&archive(&files)).unwrap();
        assert_eq!(found, files.map(|(name, content)| (name.to_owned(), content.to_vec())));
    }

    #[test]
    fn a_size_of_8_gib_and_more_is_kept() {
        for size in [0, 1, LARGE - 1, LARGE, u64::MAX] {
            assert_eq!(decode(&encode(&header("a", size), 1).unwrap()).unwrap(), header("a", size));
        }
    }

    #[test]
    fn an_archive_that_is_cut_off_or_extended_is_refused() {
        let whole = archive(&[("a", b"content")]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        assert!(read(&[&whole[..], b"x"].concat()).is_err());
    }

    #[test]
    fn a_flipped_bit_is_found_except_in_a_content() {
        let whole = archive(&[("a", &[9; 100]), ("b", b"x")]);
        let contents = [512..612, 3 * 512..3 * 512 + 1];
        let expected = read(&whole).unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                let found = read(&damaged);
                if contents.iter().any(|content| content.contains(&at)) {
                    assert_ne!(found.unwrap(), expected, "byte {at}");
                } else {
                    assert!(found.is_err(), "byte {at}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn links_directories_and_paths_are_refused() {
        for (name, kind) in [("a", b'1'), ("a", b'2'), ("a", b'5'), ("../a", b'0'), ("/a", b'0'), ("", b'0')] {
            let mut block = encode(&header(name, 0), 1).unwrap();
            block[KIND] = kind;
            let sum = checksum_field(&block);
            put(&mut block, CHECKSUM, sum.as_bytes()).unwrap();
            assert!(decode(&block).is_err(), "{name} {kind}");
        }
    }

    #[test]
    fn tar_lists_an_archive() {
        let mut tar = std::process::Command::new("tar");
        let mut tar =
            tar.arg("-tvf-").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        tar.stdin.take().unwrap().write_all(&archive(&[("keyring", b"a"), ("keyward.db", &[1; 600])])).unwrap();
        let listed = String::from_utf8(tar.wait_with_output().unwrap().stdout).unwrap();
        assert!(listed.contains("-rw-------") && listed.contains(" 600 ") && listed.contains("keyward.db"), "{listed}");
    }
}
