//! Words that nearly all running text of a language contains: Gopher's for English, and as many for other languages.

/// Gopher's stop words.
pub(super) const ENGLISH: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];

/// Stop words by the ISO 639-3 code of the language. As many as Gopher has for English; common forms of articles,
/// conjunctions, prepositions and auxiliary verbs.
const LISTS: [(&str, [&str; 8]); 25] = [
    ("eng", ENGLISH),
    ("deu", ["der", "die", "und", "in", "den", "das", "ist", "mit"]),
    ("fra", ["le", "la", "de", "et", "les", "des", "est", "que"]),
    ("spa", ["el", "la", "de", "que", "y", "en", "los", "con"]),
    ("ita", ["il", "di", "e", "che", "la", "per", "con", "è"]),
    ("por", ["o", "a", "de", "que", "e", "do", "com", "para"]),
    ("nld", ["de", "het", "een", "en", "van", "in", "is", "met"]),
    ("pol", ["i", "w", "na", "z", "się", "nie", "że", "do"]),
    ("rus", ["и", "в", "на", "не", "что", "с", "по", "как"]),
    ("ukr", ["і", "в", "на", "не", "що", "з", "до", "та"]),
    ("ces", ["a", "v", "na", "se", "je", "že", "s", "z"]),
    ("slk", ["a", "v", "na", "sa", "je", "že", "s", "z"]),
    ("swe", ["och", "i", "att", "det", "en", "som", "är", "på"]),
    ("dan", ["og", "i", "at", "det", "en", "som", "er", "på"]),
    ("nob", ["og", "i", "å", "det", "en", "som", "er", "på"]),
    ("fin", ["ja", "on", "ei", "se", "että", "oli", "mutta", "kun"]),
    ("hun", ["a", "az", "és", "hogy", "nem", "is", "egy", "meg"]),
    ("ron", ["și", "de", "la", "în", "a", "cu", "pe", "că"]),
    ("tur", ["ve", "bir", "bu", "için", "ile", "da", "de", "çok"]),
    ("bul", ["и", "на", "в", "да", "се", "от", "за", "не"]),
    ("hrv", ["i", "u", "je", "na", "se", "da", "su", "za"]),
    ("ell", ["και", "το", "η", "να", "του", "της", "με", "για"]),
    ("cat", ["el", "la", "de", "i", "que", "en", "amb", "les"]),
    ("ind", ["yang", "dan", "di", "dengan", "untuk", "dari", "ini", "pada"]),
    ("vie", ["và", "của", "là", "các", "có", "cho", "không", "được"]),
];

/// Returns the stop words of a language; `None` if there is no list.
pub fn of(language: &str) -> Option<&'static [&'static str]> {
    LISTS.iter().find(|(code, _)| *code == language).map(|(_, words)| words.as_slice())
}
