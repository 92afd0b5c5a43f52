//! One self-contained HTML page: text, tables and pictures in one file that needs no network and no
//! script.

use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::Serialize;
use std::path::Path;

/// The page's template, its style included.
const TEMPLATE: &str = include_str!("../../assets/report/page.html");

/// What a page says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Page {
    /// Its heading.
    pub title: String,
    /// The sentence below it.
    pub lead: String,
    /// The numbers that a hasty reader takes away.
    pub facts: Vec<Fact>,
    /// Everything else, in order.
    pub sections: Vec<Section>,
}

/// A number and what it is.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    /// "41.2 %".
    pub value: String,
    /// "linear probe of z, top-1".
    pub name: String,
}

/// A part of a page.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Section {
    /// Its address within the page.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// Paragraphs.
    pub words: Vec<String>,
    /// Tables, below the words.
    pub tables: Vec<Table>,
    /// Pictures, below the tables.
    pub figures: Vec<Figure>,
    /// Command lines that repeat it.
    pub commands: Vec<String>,
    /// Why something is missing.
    pub missing: Vec<String>,
    /// Text that can be folded away, in its own lines: a recipe.
    pub listing: Option<Listing>,
}

/// Text in its own lines under a heading.
#[derive(Clone, Debug, Serialize)]
pub struct Listing {
    /// What it is.
    pub title: String,
    /// The text.
    pub text: String,
}

/// A table of text.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// Column headings.
    pub head: Vec<String>,
    /// Rows of as many cells; the first one names the row.
    pub rows: Vec<Vec<String>>,
}

/// A picture within the page.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The PNG file, in base64.
    png: String,
    width: u32,
    height: u32,
    /// What it shows, for who doesn't see it and below it.
    caption: String,
    /// Whether several may stand side by side.
    small: bool,
}

impl Figure {
    /// The picture in file `path`. Those that are `small` stand side by side where there is room,
    /// and hold two of their pixels for each of the page's.
    ///
    /// # Errors
    /// If it can't be read or is no PNG.
    pub fn read(path: &Path, caption: &str, small: bool) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
        let size =
            image::ImageReader::with_format(std::io::Cursor::new(&bytes), image::ImageFormat::Png)
                .into_dimensions();
        let (width, height) =
            size.map_err(|e| Error::failed(format!("{} is no picture ({e})", path.display())))?;
        let shown = if small { 2 } else { 1 };
        Ok(Self {
            png: STANDARD.encode(&bytes),
            width: width / shown,
            height: height / shown,
            caption: caption.into(),
            small,
        })
    }
}

/// `page` as HTML. Text is escaped; nothing in it can become markup.
pub fn render(page: &Page) -> String {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.add_template("page.html", TEMPLATE).expect("a well-formed template");
    let template = environment.get_template("page.html").expect("added above");
    template
        .render(context! { page => Value::from(Serde(page)) })
        .expect("a page has everything that its template names")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let table = Table {
            head: vec!["features".into(), "top-1".into()],
            rows: vec![vec!["z".into(), "41 %".into()]],
        };
        let section = Section {
            id: "probe".into(),
            title: "What z is worth".into(),
            words: vec!["a < b & \"c\"".into()],
            tables: vec![table],
            commands: vec!["soda probe --run runs/<x>".into()],
            listing: Some(Listing { title: "The recipe".into(), text: "[train]".into() }),
            ..Default::default()
        };
        let fact = Fact { value: "41 %".into(), name: "linear probe".into() };
        Page {
            title: "Run <script>alert(1)</script>".into(),
            lead: "A lead.".into(),
            facts: vec![fact],
            sections: vec![section],
        }
    }

    #[test]
    fn text_is_escaped_and_everything_is_there() {
        let html = render(&page());
        for part in [
            "a &lt; b &amp; &quot;c&quot;",
            "id=\"probe\"",
            "href=\"#probe\"",
            "<td>41 %</td>",
            "runs&#x2f;&lt;x&gt;",
            "linear probe",
            "<summary>The recipe</summary>",
        ] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
        assert!(!html.contains("<script"), "markup came through");
        assert!(html.contains("name=\"viewport\""));
        // Nothing is fetched from anywhere.
        assert!(
            !html.contains("http://") && !html.contains("https://") && !html.contains("src=\"/")
        );
    }

    #[test]
    fn pictures_are_within_the_page() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        image::RgbImage::new(6, 4).save(&path).unwrap();
        let mut page = page();
        page.sections[0].figures = vec![
            Figure::read(&path, "six by four", false).unwrap(),
            Figure::read(&path, "half", true).unwrap(),
        ];
        let html = render(&page);
        let encoded = STANDARD.encode(std::fs::read(&path).unwrap());
        assert!(html.contains(&format!("data:image/png;base64,{encoded}")));
        assert!(
            html.contains("width=\"6\" height=\"4\"") && html.contains("width=\"3\" height=\"2\"")
        );
        std::fs::write(&path, "no picture").unwrap();
        let message = Figure::read(&path, "", false).unwrap_err().to_string();
        assert!(message.contains("a.png is no picture"), "{message}");
        assert!(Figure::read(&folder.path().join("b.png"), "", false).is_err());
    }
}
