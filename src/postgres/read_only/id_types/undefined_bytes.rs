//! The bytes of PostgreSQL's single-byte encodings that UTF-8 has no character for, read from its
//! `convert(bytea, name, name)`. An answer with one of them is an error (SQLSTATE 22P05).

/// A regular expression, empty if an encoding has none. Encodings of several bytes are not known.
pub(super) fn of(encoding: &str) -> &'static str {
    match encoding {
        "ISO_8859_6" => r"[\xa1-\xa3\xa5-\xab\xae-\xba\xbc-\xbe\xc0\xdb-\xdf\xf3-\xff]",
        "ISO_8859_7" => r"[\xae\xd2\xff]",
        "ISO_8859_8" => r"[\xa1\xbf-\xde\xfb\xfc\xff]",
        "LATIN3" => r"[\xa5\xae\xbe\xc3\xd0\xe3\xf0]",
        "WIN874" => r"[\x81-\x84\x86-\x90\x98-\x9f\xdb-\xde\xfc-\xff]",
        "WIN1250" => r"[\x81\x83\x88\x90\x98]",
        "WIN1251" => r"[\x98]",
        "WIN1252" => r"[\x81\x8d\x8f\x90\x9d]",
        "WIN1253" => r"[\x81\x88\x8a\x8c-\x90\x98\x9a\x9c-\x9f\xaa\xd2\xff]",
        "WIN1254" => r"[\x81\x8d-\x90\x9d\x9e]",
        "WIN1255" => r"[\x81\x8a\x8c-\x90\x9a\x9c-\x9f\xca\xd9-\xdf\xfb\xfc\xff]",
        "WIN1257" => r"[\x81\x83\x88\x8a\x8c\x90\x98\x9a\x9c\x9f\xa1\xa5]",
        "WIN1258" => r"[\x81\x8a\x8d-\x90\x9a\x9d\x9e]",
        _ => "",
    }
}
