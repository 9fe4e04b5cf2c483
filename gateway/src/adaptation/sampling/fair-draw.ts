import { solveCaps, type Caps, type ShareBounds } from './fair-shares.ts'
import { OPERATOR_KEY_ID } from './operator-key.ts'

/** A text that can be drawn. It counts for one key, although several may have sent it. */
export interface DrawableText {
  hash: string
  characters: number
  /** Its size in UTF-8. Shares are of bytes: a character of another script is several bytes, and often several tokens. */
  bytes: number
  tenant: string
  keyId: string
  /** The request, and the prompt of it, that the text came with first. The pieces of a long text have the same one. */
  request: string
}

/** Returns the size of the beginning of a text that is drawn where only `maxBytes` may be. */
type CutText<Text extends DrawableText> = (
  text: Text,
  maxBytes: number,
) => Pick<DrawableText, 'characters' | 'bytes'>

/** Shorter beginnings of texts are not drawn. */
const MIN_PART_BYTES = 64
/** Least portion in which a long text is drawn. */
const MIN_PORTION_BYTES = 256

/** The texts of one key in the order of priority, and how much of them is drawn. */
interface KeyDraw<Text> {
  texts: readonly Text[]
  next: number
  /** Bytes that are drawn of the next text. */
  part: number
  bytes: number
  cap: number
}

interface TenantDraw<Text> {
  keys: KeyDraw<Text>[]
  bytes: number
  cap: number
}

/**
 * Draws texts until they have `maxBytes`, evenly by tenant, then by key, then in the given order: always the next text
 * of the key that has given least. A text that is longer than two ordinary requests is drawn in portions of one, so that a key
 * of long texts gives no more than others, and in the end only its beginning may be drawn. What small keys do not give, others
 * do, up to their caps ({@link solveCaps}). Texts that the operator imported have no cap, and give the part of the draw that
 * they have of the texts.
 *
 * @param texts in the order of priority
 * @returns the drawn ones in that order, each with the size that is drawn of it
 */
export function drawFairly<Text extends DrawableText>(
  texts: readonly Text[],
  bounds: ShareBounds,
  cut: CutText<Text>,
): Text[] {
  const { maxBytes } = bounds
  const [imported, sent] = [texts.filter(isImported), texts.filter((text) => !isImported(text))]
  const exempt = bytesOf(imported)
  const ofImported = maxBytes * (exempt / (exempt + bytesOf(sent)))
  const drawnImports = takeUntil(imported, Number.isFinite(maxBytes) ? ofImported : Infinity)
  const tenants = Map.groupBy(sent, ({ tenant }) => tenant)
  const caps = solveCaps(supplyOf(tenants), exempt, bounds)
  const drawnSent = drawSent(tenants, caps, maxBytes - bytesOf(drawnImports), cut)
  const drawn = new Map([...drawnImports, ...drawnSent].map((text) => [text.hash, text]))
  return texts.flatMap(({ hash }) => drawn.get(hash) ?? [])
}

function isImported({ keyId }: Pick<DrawableText, 'keyId'>): boolean {
  return keyId === OPERATOR_KEY_ID
}

function supplyOf(tenants: ReadonlyMap<string, readonly DrawableText[]>) {
  return new Map(
    [...tenants].map(([tenant, group]) => [
      tenant,
      new Map(
        [...Map.groupBy(group, ({ keyId }) => keyId)].map(([keyId, own]) => [
          keyId,
          { bytes: bytesOf(own), requests: new Set(own.map(({ request }) => request)).size },
        ]),
      ),
    ]),
  )
}

function drawSent<Text extends DrawableText>(
  texts: ReadonlyMap<string, readonly Text[]>,
  { tenants: caps, ordinary }: Caps,
  maxBytes: number,
  cut: CutText<Text>,
): Text[] {
  const tenants = [...texts].map(([name, group]): TenantDraw<Text> => ({
    cap: caps.get(name)?.bytes ?? 0,
    bytes: 0,
    keys: [...Map.groupBy(group, ({ keyId }) => keyId)].map(([keyId, own]) => ({
      texts: own,
      next: 0,
      part: 0,
      bytes: 0,
      cap: caps.get(name)?.keys.get(keyId) ?? 0,
    })),
  }))
  const keys = tenants.flatMap((tenant) => tenant.keys)
  const portion = Math.max(ordinary, MIN_PORTION_BYTES)
  for (let left = maxBytes; left > 0;) {
    const tenant = leastDrawn(tenants)
    if (!tenant) break
    const key = leastDrawn(tenant.keys)
    if (!key) {
      tenants.splice(tenants.indexOf(tenant), 1)
      continue
    }
    const bytes = drawPortion(key, portion, Math.min(roomOf(key), roomOf(tenant)))
    if (bytes === 0) tenant.keys.splice(tenant.keys.indexOf(key), 1)
    tenant.bytes += bytes
    left -= bytes
  }
  return keys.flatMap((key) => drawnTexts(key, cut))
}

function roomOf({ cap, bytes }: Pick<KeyDraw<unknown>, 'cap' | 'bytes'>): number {
  // Caps are solved for by bisection: a text must not be cut by a rounding error.
  return Math.floor(cap * (1 + 1e-9) - bytes)
}

/** Draws the next text of a key, or the next portion of a long one. Returns its bytes; 0 if the key has given all. */
function drawPortion(key: KeyDraw<DrawableText>, portion: number, room: number): number {
  const text = key.texts[key.next]
  if (!text) return 0
  const rest = text.bytes - key.part
  const bytes = Math.max(0, Math.min(rest <= 2 * portion ? rest : portion, room))
  key.bytes += bytes
  key.part += bytes
  if (key.part === text.bytes) {
    key.next += 1
    key.part = 0
  }
  return bytes
}

function drawnTexts<Text extends DrawableText>(
  { texts, next, part }: KeyDraw<Text>,
  cut: CutText<Text>,
): Text[] {
  const whole = texts.slice(0, next)
  const last = texts[next]
  const beginning = last && part >= MIN_PART_BYTES ? cut(last, part) : undefined
  return last && beginning && beginning.bytes > 0 ? [...whole, { ...last, ...beginning }] : whole
}

/** Returns the one that has given least; of equals the first, which has the text with the lowest priority. */
function leastDrawn<Draw extends { bytes: number }>(draws: readonly Draw[]): Draw | undefined {
  let least: Draw | undefined
  for (const draw of draws) if (!least || draw.bytes < least.bytes) least = draw
  return least
}

function takeUntil<Text extends DrawableText>(texts: readonly Text[], maxBytes: number): Text[] {
  const taken: Text[] = []
  let bytes = 0
  for (const text of texts) {
    if (bytes >= maxBytes) break
    taken.push(text)
    bytes += text.bytes
  }
  return taken
}

function bytesOf(texts: readonly DrawableText[]): number {
  return texts.reduce((sum, { bytes }) => sum + bytes, 0)
}
