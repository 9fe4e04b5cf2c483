import { solveCaps, type Cap, type Caps, type ShareBounds } from './fair-shares.ts'
import { OPERATOR_KEY_ID } from './operator-key.ts'

/** A text that can be drawn. It counts for one key, although several may have sent it. */
export interface DrawableText {
  hash: string
  characters: number
  tenant: string
  keyId: string
}

/** Draws that are repeated with smaller caps because whole pieces gave less than their characters promised. */
const MAX_REDRAWS = 48
const REDRAW_FACTOR = 0.97

const NO_CAPS: Caps = {
  tenant: { characters: Infinity, isStrict: false },
  key: { characters: Infinity, isStrict: false },
}

/** The texts of one key in the order of priority, and how much of them is drawn. */
interface KeyDraw {
  texts: DrawableText[]
  next: number
  characters: number
}

interface TenantDraw {
  keys: KeyDraw[]
  characters: number
}

/**
 * Draws texts until they have `maxCharacters`, evenly by tenant, then by key, then in the given order: always the next text
 * of the key that has given least. What small keys do not give, others do, up to their caps ({@link solveCaps}). At least one
 * text of a key is drawn, however small its cap. Texts that the operator imported have no cap, and give the part of the draw
 * that they have of the texts.
 *
 * @param texts in the order of priority
 * @returns the drawn ones in that order
 */
export function drawFairly<Text extends DrawableText>(texts: readonly Text[], bounds: ShareBounds): Text[] {
  const { maxCharacters } = bounds
  const [imported, sent] = [texts.filter(isImported), texts.filter((text) => !isImported(text))]
  const tenants = Map.groupBy(sent, ({ tenant }) => tenant)
  const supply = new Map(
    [...tenants].map(([tenant, group]) => [
      tenant,
      new Map(
        [...Map.groupBy(group, ({ keyId }) => keyId)].map(([keyId, own]) => [keyId, charactersOf(own)]),
      ),
    ]),
  )
  const exempt = charactersOf(imported)
  const ofImported = maxCharacters * (exempt / (exempt + charactersOf(sent)))
  const drawnImports = takeUntil(imported, Number.isFinite(maxCharacters) ? ofImported : Infinity)
  let limit = maxCharacters
  for (let redraw = 0; ; redraw++) {
    const caps = solveCaps(supply, exempt, bounds, limit)
    const drawn = drawSent(tenants, caps, maxCharacters - charactersOf(drawnImports))
    const all = charactersOf(drawn) + charactersOf(drawnImports)
    const allowed = solveCaps(supply, exempt, bounds, Math.min(maxCharacters, all))
    if (redraw >= MAX_REDRAWS || !exceeds(drawn, allowed)) {
      const hashes = new Set([...drawnImports, ...drawn].map(({ hash }) => hash))
      return texts.filter(({ hash }) => hashes.has(hash))
    }
    limit = Math.min(all, limit) * REDRAW_FACTOR
  }
}

function isImported({ keyId }: Pick<DrawableText, 'keyId'>): boolean {
  return keyId === OPERATOR_KEY_ID
}

function drawSent(
  texts: ReadonlyMap<string, readonly DrawableText[]>,
  caps: ReadonlyMap<string, Caps>,
  maxCharacters: number,
): DrawableText[] {
  const tenants = [...texts].map(([name, group]) => ({
    caps: caps.get(name) ?? NO_CAPS,
    characters: 0,
    keys: [...Map.groupBy(group, ({ keyId }) => keyId).values()].map((own): KeyDraw => ({
      texts: own,
      next: 0,
      characters: 0,
    })),
  }))
  const drawn: DrawableText[] = []
  for (let left = maxCharacters; left > 0;) {
    const tenant = leastDrawn(tenants)
    const key = tenant && leastDrawn(tenant.keys)
    if (!tenant || !key) {
      if (!tenant) break
      tenants.splice(tenants.indexOf(tenant), 1)
      continue
    }
    const text = key.texts[key.next]
    if (!text || !fits(key, text, tenant.caps.key) || !fits(tenant, text, tenant.caps.tenant)) {
      tenant.keys.splice(tenant.keys.indexOf(key), 1)
      continue
    }
    drawn.push(text)
    key.next += 1
    key.characters += text.characters
    tenant.characters += text.characters
    left -= text.characters
  }
  return drawn
}

function fits({ characters }: KeyDraw | TenantDraw, text: DrawableText, cap: Cap): boolean {
  if (characters === 0) return true
  return cap.isStrict ? characters + text.characters <= cap.characters : characters < cap.characters
}

/** Returns the one that has given least; of equals the first, which has the text with the lowest priority. */
function leastDrawn<Draw extends { characters: number }>(draws: readonly Draw[]): Draw | undefined {
  let least: Draw | undefined
  for (const draw of draws) if (!least || draw.characters < least.characters) least = draw
  return least
}

/** Returns whether a key or a tenant with several texts gives more than its cap for what was drawn in all. */
function exceeds(drawn: readonly DrawableText[], allowed: ReadonlyMap<string, Caps>): boolean {
  for (const [name, ofTenant] of Map.groupBy(drawn, ({ tenant }) => tenant)) {
    const { tenant, key } = allowed.get(name) ?? NO_CAPS
    if (isOver(ofTenant, tenant)) return true
    if ([...Map.groupBy(ofTenant, ({ keyId }) => keyId).values()].some((own) => isOver(own, key))) return true
  }
  return false
}

function isOver(texts: readonly DrawableText[], { characters, isStrict }: Cap): boolean {
  const part = isStrict ? 0 : Math.max(...texts.map((text) => text.characters))
  return texts.length > 1 && charactersOf(texts) - part > characters * (1 + 1e-9)
}

function takeUntil<Text extends DrawableText>(texts: readonly Text[], maxCharacters: number): Text[] {
  const taken: Text[] = []
  let characters = 0
  for (const text of texts) {
    if (characters >= maxCharacters) break
    taken.push(text)
    characters += text.characters
  }
  return taken
}

function charactersOf(texts: readonly DrawableText[]): number {
  return texts.reduce((sum, { characters }) => sum + characters, 0)
}
