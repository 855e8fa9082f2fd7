//! Painting of an SVG that `usvg` has reduced to groups and paths (SVG 1.1, chapters 11, 13 and 14).

use tiny_skia::{
    Color, FillRule, FilterQuality, GradientStop, LinearGradient, Mask, MaskType, Paint, Path, PathBuilder, Pattern,
    Pixmap, PixmapPaint, Point, RadialGradient, Shader, SpreadMode, Transform,
};
use usvg::{BlendMode, Group, Node, Tree};

use crate::picture::Samples;
use crate::{Error, Kind, Picture};

/// The most layers above each other: 256 MiB at the largest side. Heuristic, not measured.
const MAX_LAYERS: u32 = 64;

/// Paints a picture on white, with `side` pixels on its longer side.
pub(super) fn picture(tree: &Tree, side: u32) -> Result<Picture, Error> {
    let size = tree.size();
    let scale = side as f32 / size.width().max(size.height());
    let pixels = |length: f32| ((length * scale).round() as u32).clamp(1, side);
    let mut canvas = Canvas { pixmap: pixmap(pixels(size.width()), pixels(size.height()))?, layers: 0 };
    canvas.pixmap.fill(Color::WHITE);
    canvas.group(tree.root(), Transform::from_scale(scale, scale))?;
    let (width, height) = (canvas.pixmap.width(), canvas.pixmap.height());
    Samples::Rgba.picture(Kind::Svg, width, height, canvas.pixmap.take_demultiplied())
}

fn pixmap(width: u32, height: u32) -> Result<Pixmap, Error> {
    Pixmap::new(width, height).ok_or_else(|| Error::damaged(Kind::Svg, "it has no pixels"))
}

/// A layer that is painted on.
struct Canvas {
    pixmap: Pixmap,
    /// The layers below it.
    layers: u32,
}

impl Canvas {
    /// Returns an empty layer of the same size above this one.
    fn layer(&self) -> Result<Self, Error> {
        if self.layers >= MAX_LAYERS {
            let what = format!("it has more than {MAX_LAYERS} layers above each other");
            return Err(Error::Hostile { kind: Kind::Svg, what });
        }
        Ok(Self { pixmap: pixmap(self.pixmap.width(), self.pixmap.height())?, layers: self.layers + 1 })
    }

    fn group(&mut self, group: &Group, above: Transform) -> Result<(), Error> {
        let transform = above.pre_concat(group.transform());
        if !group.should_isolate() {
            return self.children(group, transform);
        }
        let mut layer = self.layer()?;
        layer.children(group, transform)?;
        if let Some(clip) = group.clip_path() {
            layer.pixmap.apply_mask(&layer.clip(clip, transform)?);
        }
        if let Some(mask) = group.mask() {
            layer.pixmap.apply_mask(&layer.mask(mask, transform)?);
        }
        let paint = PixmapPaint {
            opacity: group.opacity().get(),
            blend_mode: blend_mode(group.blend_mode()),
            quality: FilterQuality::Nearest,
        };
        self.pixmap.draw_pixmap(0, 0, layer.pixmap.as_ref(), &paint, Transform::identity(), None);
        Ok(())
    }

    fn children(&mut self, group: &Group, transform: Transform) -> Result<(), Error> {
        for node in group.children() {
            match node {
                Node::Group(group) => self.group(group, transform)?,
                Node::Path(path) => self.path(path, transform)?,
                // Both are refused before.
                Node::Image(_) | Node::Text(_) => {}
            }
        }
        Ok(())
    }

    fn path(&mut self, path: &usvg::Path, transform: Transform) -> Result<(), Error> {
        if !path.is_visible() {
            return Ok(());
        }
        match path.paint_order() {
            usvg::PaintOrder::FillAndStroke => {
                self.fill(path, transform)?;
                self.stroke(path, transform)
            }
            usvg::PaintOrder::StrokeAndFill => {
                self.stroke(path, transform)?;
                self.fill(path, transform)
            }
        }
    }

    fn fill(&mut self, path: &usvg::Path, transform: Transform) -> Result<(), Error> {
        let Some(fill) = path.fill() else { return Ok(()) };
        let rule = match fill.rule() {
            usvg::FillRule::NonZero => FillRule::Winding,
            usvg::FillRule::EvenOdd => FillRule::EvenOdd,
        };
        let draw = |canvas: &mut Pixmap, paint: &Paint<'_>| canvas.fill_path(path.data(), paint, rule, transform, None);
        self.draw(path, fill.paint(), fill.opacity().get(), transform, draw)
    }

    fn stroke(&mut self, path: &usvg::Path, transform: Transform) -> Result<(), Error> {
        let Some(stroke) = path.stroke() else { return Ok(()) };
        let outline = stroke.to_tiny_skia();
        let draw = |canvas: &mut Pixmap, paint: &Paint<'_>| {
            canvas.stroke_path(path.data(), paint, &outline, transform, None);
        };
        self.draw(path, stroke.paint(), stroke.opacity().get(), transform, draw)
    }

    /// Calls `draw` with what a path is painted with.
    fn draw(
        &mut self,
        path: &usvg::Path,
        paint: &usvg::Paint,
        opacity: f32,
        transform: Transform,
        draw: impl FnOnce(&mut Pixmap, &Paint<'_>),
    ) -> Result<(), Error> {
        let tile;
        let shader = match paint {
            usvg::Paint::Color(color) => Some(Shader::SolidColor(rgba(*color, opacity))),
            usvg::Paint::LinearGradient(gradient) => LinearGradient::new(
                Point::from_xy(gradient.x1(), gradient.y1()),
                Point::from_xy(gradient.x2(), gradient.y2()),
                stops(gradient, opacity),
                spread(gradient.spread_method()),
                gradient.transform(),
            ),
            usvg::Paint::RadialGradient(gradient) => RadialGradient::new(
                Point::from_xy(gradient.fx(), gradient.fy()),
                gradient.fr().get(),
                Point::from_xy(gradient.cx(), gradient.cy()),
                gradient.r().get(),
                stops(gradient, opacity),
                spread(gradient.spread_method()),
                gradient.transform(),
            ),
            usvg::Paint::Pattern(pattern) => {
                let (pixmap, placed) = self.tile(pattern, transform)?;
                tile = pixmap;
                let quality = FilterQuality::Bicubic;
                Some(Pattern::new(tile.as_ref(), SpreadMode::Repeat, quality, opacity, placed))
            }
        };
        // A gradient without an extent paints nothing.
        if let Some(shader) = shader {
            let anti_alias = path.rendering_mode().use_shape_antialiasing();
            draw(&mut self.pixmap, &Paint { shader, anti_alias, ..Paint::default() });
        }
        Ok(())
    }

    /// Paints one tile of a pattern at the canvas's resolution; returns it, and where it is in the path's coordinates.
    fn tile(&self, pattern: &usvg::Pattern, transform: Transform) -> Result<(Pixmap, Transform), Error> {
        let rect = pattern.rect();
        let (scale_x, scale_y) = transform.pre_concat(pattern.transform()).get_scale();
        let largest = 2 * self.pixmap.width().max(self.pixmap.height());
        let pixels = |length: f32, scale: f32| ((length * scale).ceil() as u32).clamp(1, largest);
        let (width, height) = (pixels(rect.width(), scale_x), pixels(rect.height(), scale_y));
        let (scale_x, scale_y) = (width as f32 / rect.width(), height as f32 / rect.height());
        let mut tile = self.layer()?;
        tile.pixmap = pixmap(width, height)?;
        tile.children(pattern.root(), Transform::from_scale(scale_x, scale_y))?;
        let placed = pattern.transform().pre_translate(rect.x(), rect.y()).pre_scale(1.0 / scale_x, 1.0 / scale_y);
        Ok((tile.pixmap, placed))
    }

    fn clip(&self, clip: &usvg::ClipPath, transform: Transform) -> Result<Mask, Error> {
        let mut layer = self.layer()?;
        layer.children(clip.root(), transform.pre_concat(clip.transform()))?;
        if let Some(clip) = clip.clip_path() {
            layer.pixmap.apply_mask(&layer.clip(clip, transform)?);
        }
        Ok(Mask::from_pixmap(layer.pixmap.as_ref(), MaskType::Alpha))
    }

    fn mask(&self, mask: &usvg::Mask, transform: Transform) -> Result<Mask, Error> {
        let mut layer = self.layer()?;
        layer.children(mask.root(), transform)?;
        let (width, height) = (layer.pixmap.width(), layer.pixmap.height());
        if let Some(mut area) = Mask::new(width, height) {
            let rect: Path = PathBuilder::from_rect(mask.rect().to_rect());
            area.fill_path(&rect, FillRule::Winding, true, transform);
            layer.pixmap.apply_mask(&area);
        }
        if let Some(mask) = mask.mask() {
            layer.pixmap.apply_mask(&layer.mask(mask, transform)?);
        }
        let kind = match mask.kind() {
            usvg::MaskType::Luminance => MaskType::Luminance,
            usvg::MaskType::Alpha => MaskType::Alpha,
        };
        Ok(Mask::from_pixmap(layer.pixmap.as_ref(), kind))
    }
}

fn rgba(color: usvg::Color, opacity: f32) -> Color {
    let mut rgba = Color::from_rgba8(color.red, color.green, color.blue, 255);
    rgba.set_alpha(opacity);
    rgba
}

fn stops(gradient: &usvg::BaseGradient, opacity: f32) -> Vec<GradientStop> {
    let stop =
        |stop: &usvg::Stop| GradientStop::new(stop.offset().get(), rgba(stop.color(), opacity * stop.opacity().get()));
    gradient.stops().iter().map(stop).collect()
}

fn spread(method: usvg::SpreadMethod) -> SpreadMode {
    match method {
        usvg::SpreadMethod::Pad => SpreadMode::Pad,
        usvg::SpreadMethod::Reflect => SpreadMode::Reflect,
        usvg::SpreadMethod::Repeat => SpreadMode::Repeat,
    }
}

fn blend_mode(mode: BlendMode) -> tiny_skia::BlendMode {
    match mode {
        BlendMode::Normal => tiny_skia::BlendMode::SourceOver,
        BlendMode::Multiply => tiny_skia::BlendMode::Multiply,
        BlendMode::Screen => tiny_skia::BlendMode::Screen,
        BlendMode::Overlay => tiny_skia::BlendMode::Overlay,
        BlendMode::Darken => tiny_skia::BlendMode::Darken,
        BlendMode::Lighten => tiny_skia::BlendMode::Lighten,
        BlendMode::ColorDodge => tiny_skia::BlendMode::ColorDodge,
        BlendMode::ColorBurn => tiny_skia::BlendMode::ColorBurn,
        BlendMode::HardLight => tiny_skia::BlendMode::HardLight,
        BlendMode::SoftLight => tiny_skia::BlendMode::SoftLight,
        BlendMode::Difference => tiny_skia::BlendMode::Difference,
        BlendMode::Exclusion => tiny_skia::BlendMode::Exclusion,
        BlendMode::Hue => tiny_skia::BlendMode::Hue,
        BlendMode::Saturation => tiny_skia::BlendMode::Saturation,
        BlendMode::Color => tiny_skia::BlendMode::Color,
        BlendMode::Luminosity => tiny_skia::BlendMode::Luminosity,
        BlendMode::PlusLighter => tiny_skia::BlendMode::Plus,
    }
}
