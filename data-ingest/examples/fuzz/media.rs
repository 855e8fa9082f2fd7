//! Random archives of pictures and sounds with captions.

use data_ingest::{Format, Source};
use test_support::fuzz::Random;
use test_support::media::{gif, png, svg, wav};

use crate::input::{Input, JSON_WORDS, file};
use crate::packed::{tar, zip};

const TABLE: &str = "file,text,n\na.png,one,1\nb,two,2\nb,three,\n\"c.wav\",\"a, b\",4\n";
const LINES: &str = "{\"file\": \"a\", \"text\": \"one\"}\n{\"file\": \"c.wav\", \"text\": \"\\ufffc\", \"n\": [1]}\n";

/// Returns an archive, and how to read it.
pub fn media(random: &mut Random) -> Input {
    let mut members: Vec<(&str, Vec<u8>)> = vec![
        ("a.png", png(3, 2, 3, &[random.below(256) as u8; 18])),
        ("a.txt", b"a cat".to_vec()),
        ("b.gif", gif(4, 4, [[0; 3], [9; 3]])),
        ("b.json", b"{\"text\": \"a dog\", \"n\": 2}".to_vec()),
        ("c.wav", wav(8000, 1, &[7; 50])),
        ("d.svg", svg("<g id='a'><use href='#b'/><path d='M0 0h9v9z' fill='url(#c)'/></g>")),
        ("t.csv", TABLE.into()),
        ("t.jsonl", LINES.into()),
        ("t.json", format!("[{}]", LINES.trim().replace('\n', ",")).into_bytes()),
    ];
    members.retain(|_| !random.one_in(4));
    for (_, bytes) in &mut members {
        if random.one_in(2) {
            random.damage(bytes, JSON_WORDS);
        }
    }
    let some = |text: &str| Some(text.to_owned());
    let table = random.pick(&["t.csv", "t.jsonl", "t.json"]);
    let is_table = random.one_in(2);
    let templates = [None, some("{{ media }}"), some("{{ file.name }} {{ n }}{{ media }}{{ text }}{{ media }}")];
    let source = Source {
        format: Some(Format::Media),
        captions: is_table.then(|| table.to_owned()),
        caption_key: is_table.then(|| "file".to_owned()),
        template: templates[random.below(3)].clone(),
        ..Source::default()
    };
    let members: Vec<(&str, &[u8])> = members.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    let (name, mut bytes) = if random.one_in(2) { ("a.zip", zip(&members)) } else { ("a.tar", tar(&members)) };
    if random.one_in(4) {
        random.damage(&mut bytes, JSON_WORDS);
    }
    file((name, bytes), source)
}
