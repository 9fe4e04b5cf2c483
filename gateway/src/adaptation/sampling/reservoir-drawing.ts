import type { Draw } from '../../contracts/reservoir-counts.ts'
import type { TakeRequest } from '../../contracts/reservoir-object.ts'
import { drawFairly, type DrawableText } from './fair-draw.ts'
import type { ShareBounds } from './fair-shares.ts'
import type { ReservoirFacts } from './reservoir-facts.ts'
import { NOT_SET_ASIDE, type ReservoirReview } from './reservoir-review.ts'
import type { ReservoirTexts } from './reservoir-texts.ts'

/** Maximum share of one key in what is drawn, where a call names none. */
const DEFAULT_KEY_SHARE = 0.1
/** Robust deviations from which on a text is set aside, until a call names another number. */
const DEFAULT_DEVIATIONS = 6

/** Draws texts of a reservoir, fairly by tenant and key, without those that are set aside. */
export class ReservoirDrawing {
  readonly #facts: ReservoirFacts
  readonly #texts: ReservoirTexts
  readonly #review: ReservoirReview

  constructor(parts: { facts: ReservoirFacts; texts: ReservoirTexts; review: ReservoirReview }) {
    this.#facts = parts.facts
    this.#texts = parts.texts
    this.#review = parts.review
  }

  /** Sets aside the texts that are outliers by the last draw. */
  setAside(): void {
    this.#review.setAside(this.#deviations())
  }

  /** Draws texts of the pool that a model has not taken. The outliers are those of this draw from then on. */
  draw({ model, ...draw }: Omit<TakeRequest, 'updateId'>): DrawableText[] {
    const { outlierDeviations } = draw
    if (outlierDeviations !== undefined) this.#facts.set('outlier_deviations', outlierDeviations ?? 0)
    this.setAside()
    return this.drawPool(model, draw)
  }

  /** Draws texts of the pool that a model has not taken, with the outliers as they are. */
  drawPool(model: string, { maxBytes, maxKeyShare }: Draw): DrawableText[] {
    const texts = this.#texts.listDrawable(
      `side = 'pool' AND ${NOT_SET_ASIDE} AND hash NOT IN (SELECT hash FROM taken WHERE model = ?)`,
      [model],
    )
    return this.#drawFrom(texts, { maxBytes, maxKeyShare: maxKeyShare ?? DEFAULT_KEY_SHARE })
  }

  /** Draws held-out texts. */
  drawHoldout(maxBytes: number): DrawableText[] {
    this.setAside()
    const texts = this.#texts.listDrawable(`side = 'holdout' AND ${NOT_SET_ASIDE}`, [])
    return this.#drawFrom(texts, { maxBytes, maxKeyShare: DEFAULT_KEY_SHARE })
  }

  #drawFrom(texts: readonly DrawableText[], bounds: ShareBounds): DrawableText[] {
    return drawFairly(texts, bounds, (text, most) => this.#texts.cut(text, most))
  }

  /** Returns the deviations of the last draw; null if texts are not set aside. */
  #deviations(): number | null {
    const deviations = this.#facts.number('outlier_deviations') ?? DEFAULT_DEVIATIONS
    return deviations === 0 ? null : deviations
  }
}
