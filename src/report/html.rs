//! A self-contained HTML page: text, tables and pictures in one file, without network access or
//! scripts.

use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::Serialize;
use std::path::Path;

/// The page's template, including its style sheet.
const TEMPLATE: &str = include_str!("../../assets/report/page.html");

/// The content of a page.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Page {
    /// The heading.
    pub title: String,
    /// The sentence below the heading.
    pub lead: String,
    /// The key results.
    pub facts: Vec<Fact>,
    /// All other sections, in order.
    pub sections: Vec<Section>,
}

/// A key result and its name.
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
    /// The anchor within the page.
    pub id: String,
    /// The heading.
    pub title: String,
    /// Paragraphs.
    pub words: Vec<String>,
    /// Tables, below the paragraphs.
    pub tables: Vec<Table>,
    /// Pictures, below the tables.
    pub figures: Vec<Figure>,
    /// Command lines that reproduce the section.
    pub commands: Vec<String>,
    /// Explanations of what is missing.
    pub missing: Vec<String>,
    /// Preformatted text in a collapsible block, such as a recipe.
    pub listing: Option<Listing>,
}

/// Preformatted text under a heading.
#[derive(Clone, Debug, Serialize)]
pub struct Listing {
    /// The heading.
    pub title: String,
    /// The text.
    pub text: String,
}

/// A table of text.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// Column headings.
    pub head: Vec<String>,
    /// Rows with as many cells as the head; the first cell names the row.
    pub rows: Vec<Vec<String>>,
}

/// A picture embedded in the page.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The PNG file, in base64.
    png: String,
    width: u32,
    height: u32,
    /// The caption below it, which is also the alternative text.
    caption: String,
    /// Whether it may be placed side by side with others.
    small: bool,
}

impl Figure {
    /// Reads the picture in file `path`. `small` pictures are placed side by side if there is
    /// space, and have two image pixels for each pixel of the page.
    ///
    /// # Errors
    /// If the file can't be read or isn't a PNG.
    pub fn read(path: &Path, caption: &str, small: bool) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
        let size =
            image::ImageReader::with_format(std::io::Cursor::new(&bytes), image::ImageFormat::Png)
                .into_dimensions();
        let (width, height) = size
            .map_err(|e| Error::failed(format!("{} is not a PNG picture ({e})", path.display())))?;
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

/// Renders `page` as HTML. Text is escaped, so that nothing in it becomes markup.
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
        assert!(!html.contains("<script"), "text became markup");
        assert!(html.contains("name=\"viewport\""));
        // The page loads nothing from elsewhere.
        assert!(
            !html.contains("http://") && !html.contains("https://") && !html.contains("src=\"/")
        );
    }

    #[test]
    fn pictures_are_embedded_in_the_page() {
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
        assert!(message.contains("a.png is not a PNG picture"), "{message}");
        assert!(Figure::read(&folder.path().join("b.png"), "", false).is_err());
    }
}
