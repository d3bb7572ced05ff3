//! A chart as a PNG, drawn from its SVG in the light style.
//!
//! Texts need a font. The fonts of the machine are used: the program contains none, because it would have to contain
//! the scripts of all symbols.

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{self, Options, Tree};

use super::file::light;

/// Pixels for a unit of the drawing, for print and fine screens. [1]
const SCALE: f32 = 2.0;

/// Why a chart cannot be drawn as a PNG.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    #[error(
        "this machine has no font, which the texts of a PNG need: install one (Debian: apt-get install fonts-dejavu-core), or \
         write an .svg, which every browser shows"
    )]
    NoFont,
    #[error("the chart cannot be drawn")]
    Svg(#[from] usvg::Error),
    #[error("the picture cannot be encoded: {0}")]
    Encoding(String),
}

/// Returns a chart as the bytes of a PNG file. Reads the fonts of the machine.
pub fn png(chart: &str) -> Result<Vec<u8>, PngError> {
    let mut fonts = Database::new();
    fonts.load_system_fonts();
    drawn(chart, fonts)
}

fn drawn(chart: &str, mut fonts: Database) -> Result<Vec<u8>, PngError> {
    let first = fonts.faces().next().and_then(|face| Some(face.families.first()?.0.clone()));
    let Some(first) = first else { return Err(PngError::NoFont) };
    // The fallback if the machine has none of the font families of the style.
    fonts.set_sans_serif_family(&*first);
    let options = Options { font_family: first, fontdb: fonts.into(), ..Options::default() };
    let tree = Tree::from_str(&light(chart), &options)?;
    let size = tree.size().to_int_size().scale_by(SCALE);
    let picture = size.and_then(|size| Pixmap::new(size.width(), size.height()));
    let mut picture = picture.ok_or_else(|| PngError::Encoding("it has no size".to_owned()))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut picture.as_mut());
    picture.encode_png().map_err(|error| PngError::Encoding(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::chart::svg::Svg;

    fn chart(with_text: bool) -> String {
        let mut svg = Svg::new("chart wide", (1120.0, 100.0), "a test");
        svg.rect("hold", (100.0, 20.0), (200.0, 40.0), "");
        if with_text {
            svg.text("label", (600.0, 50.0), "start", "币安人生USDT <b> 1.05 R");
        }
        svg.finish()
    }

    fn pixels(png: &[u8]) -> Pixmap {
        Pixmap::decode_png(png).expect("it is a PNG")
    }

    #[test]
    fn without_a_font_it_says_what_to_install() {
        let error = drawn(&chart(true), Database::new()).expect_err("there is no font");
        assert!(error.to_string().contains("apt-get install fonts-dejavu-core"), "{error}");
    }

    #[test]
    fn shapes_and_texts_are_drawn_in_the_colours_of_the_light_style() {
        let mut fonts = Database::new();
        fonts.load_system_fonts();
        if fonts.is_empty() {
            return eprintln!("skipped: this machine has no font (Debian: apt-get install fonts-dejavu-core)");
        }
        let picture = pixels(&drawn(&chart(true), fonts.clone()).expect("it draws"));
        assert_eq!((picture.width(), picture.height()), (2240, 200));
        let colour = |x, y| {
            let pixel = picture.pixel(x, y).expect("it is inside").demultiply();
            (pixel.red(), pixel.green(), pixel.blue(), pixel.alpha())
        };
        assert_eq!(colour(10, 10), (0xff, 0xff, 0xff, 0xff), "the paper is that of a card");
        assert_eq!(colour(400, 80), (0x8f, 0xa1, 0xb3, 0xff), "a hold");
        let without = pixels(&drawn(&chart(false), fonts).expect("it draws"));
        let differ = picture.pixels().iter().zip(without.pixels()).filter(|(a, b)| a != b).count();
        assert!(differ > 500, "the text is drawn: {differ}");
    }
}
