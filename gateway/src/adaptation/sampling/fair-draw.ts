import { solveCaps, type Caps, type ShareBounds } from './fair-shares.ts'
import { OPERATOR_KEY_ID } from './operator-key.ts'

/** A text that can be drawn. It counts for one key, although several may have sent it. */
export interface DrawableText {
  hash: string
  characters: number
  tenant: string
  keyId: string
  /** The request, and the prompt of it, that the text came with first. The pieces of a long text have the same one. */
  request: string
}

/** Returns how many characters of a text's beginning are drawn where only `maxCharacters` may be. */
type CutText<Text extends DrawableText> = (text: Text, maxCharacters: number) => number

/** Shorter beginnings of texts are not drawn. */
const MIN_PART_CHARACTERS = 64
/** Least portion in which a long text is drawn. */
const MIN_PORTION_CHARACTERS = 256

/** The texts of one key in the order of priority, and how much of them is drawn. */
interface KeyDraw<Text> {
  texts: readonly Text[]
  next: number
  /** Characters that are drawn of the next text. */
  part: number
  characters: number
  cap: number
}

interface TenantDraw<Text> {
  keys: KeyDraw<Text>[]
  characters: number
  cap: number
}

/**
 * Draws texts until they have `maxCharacters`, evenly by tenant, then by key, then in the given order: always the next text
 * of the key that has given least. A text that is longer than two ordinary requests is drawn in portions of one, so that a key
 * of long texts gives no more than others, and in the end only its beginning may be drawn. What small keys do not give, others
 * do, up to their caps ({@link solveCaps}). Texts that the operator imported have no cap, and give the part of the draw that
 * they have of the texts.
 *
 * @param texts in the order of priority
 * @returns the drawn ones in that order, with the characters that are drawn of each
 */
export function drawFairly<Text extends DrawableText>(
  texts: readonly Text[],
  bounds: ShareBounds,
  cut: CutText<Text>,
): Text[] {
  const { maxCharacters } = bounds
  const [imported, sent] = [texts.filter(isImported), texts.filter((text) => !isImported(text))]
  const exempt = charactersOf(imported)
  const ofImported = maxCharacters * (exempt / (exempt + charactersOf(sent)))
  const drawnImports = takeUntil(imported, Number.isFinite(maxCharacters) ? ofImported : Infinity)
  const tenants = Map.groupBy(sent, ({ tenant }) => tenant)
  const caps = solveCaps(supplyOf(tenants), exempt, bounds)
  const drawnSent = drawSent(tenants, caps, maxCharacters - charactersOf(drawnImports), cut)
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
          { characters: charactersOf(own), requests: new Set(own.map(({ request }) => request)).size },
        ]),
      ),
    ]),
  )
}

function drawSent<Text extends DrawableText>(
  texts: ReadonlyMap<string, readonly Text[]>,
  { tenants: caps, ordinary }: Caps,
  maxCharacters: number,
  cut: CutText<Text>,
): Text[] {
  const tenants = [...texts].map(([name, group]): TenantDraw<Text> => ({
    cap: caps.get(name)?.characters ?? 0,
    characters: 0,
    keys: [...Map.groupBy(group, ({ keyId }) => keyId)].map(([keyId, own]) => ({
      texts: own,
      next: 0,
      part: 0,
      characters: 0,
      cap: caps.get(name)?.keys.get(keyId) ?? 0,
    })),
  }))
  const keys = tenants.flatMap((tenant) => tenant.keys)
  const portion = Math.max(ordinary, MIN_PORTION_CHARACTERS)
  for (let left = maxCharacters; left > 0;) {
    const tenant = leastDrawn(tenants)
    if (!tenant) break
    const key = leastDrawn(tenant.keys)
    if (!key) {
      tenants.splice(tenants.indexOf(tenant), 1)
      continue
    }
    const characters = drawPortion(key, portion, Math.min(roomOf(key), roomOf(tenant)))
    if (characters === 0) tenant.keys.splice(tenant.keys.indexOf(key), 1)
    tenant.characters += characters
    left -= characters
  }
  return keys.flatMap((key) => drawnTexts(key, cut))
}

function roomOf({ cap, characters }: Pick<KeyDraw<unknown>, 'cap' | 'characters'>): number {
  // Caps are solved for by bisection: a text must not be cut by a rounding error.
  return Math.floor(cap * (1 + 1e-9) - characters)
}

/** Draws the next text of a key, or the next portion of a long one. Returns its characters; 0 if the key has given all. */
function drawPortion(key: KeyDraw<DrawableText>, portion: number, room: number): number {
  const text = key.texts[key.next]
  if (!text) return 0
  const rest = text.characters - key.part
  const characters = Math.max(0, Math.min(rest <= 2 * portion ? rest : portion, room))
  key.characters += characters
  key.part += characters
  if (key.part === text.characters) {
    key.next += 1
    key.part = 0
  }
  return characters
}

function drawnTexts<Text extends DrawableText>(
  { texts, next, part }: KeyDraw<Text>,
  cut: CutText<Text>,
): Text[] {
  const whole = texts.slice(0, next)
  const last = texts[next]
  const characters = last && part >= MIN_PART_CHARACTERS ? cut(last, part) : 0
  return last && characters > 0 ? [...whole, { ...last, characters }] : whole
}

/** Returns the one that has given least; of equals the first, which has the text with the lowest priority. */
function leastDrawn<Draw extends { characters: number }>(draws: readonly Draw[]): Draw | undefined {
  let least: Draw | undefined
  for (const draw of draws) if (!least || draw.characters < least.characters) least = draw
  return least
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
