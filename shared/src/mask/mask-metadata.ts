import { asMaskInvalid, maskInvalid } from './mask-error.ts'
import { parsePattern, type MaskScope } from './sparsity-pattern.ts'

/** The kind of a mask file: `mask` says which weights survive, `weights` also has their values. */
export type MaskKind = 'mask' | 'weights'

const FORMATS: Readonly<Record<MaskKind, string>> = { mask: 'copal-mask', weights: 'copal-weights' }
const FORMAT_VERSION = '1'

/** The pattern of a linear that keeps all its weights; the mask has no tensor for it. */
export const DENSE = 'dense'

/** The metadata of a mask file. */
export interface MaskMeta {
  method: string
  /** `0.5`, `2:4`. */
  pattern: string
  /** Whether each row or the whole matrix keeps an exact count; ignored for n:m. */
  scope: MaskScope
  /** Patterns of the linears that differ from `pattern`, possibly {@link DENSE}, by the name of the weight. */
  patterns: Readonly<Record<string, string>>
  /** Domains whose statistics the mask was chosen from. */
  domains: readonly string[]
  /** SHA-256 of the mask file that this one succeeds. */
  parent: string | null
  /** ISO 8601. */
  created: string
  /** SHA-256 over the dense linear weights that it was chosen from. */
  baseSha256: string
}

/** Returns the pattern of one linear, which may be {@link DENSE}. */
export function linearPattern(meta: Pick<MaskMeta, 'pattern' | 'patterns'>, name: string): string {
  return Object.hasOwn(meta.patterns, name) ? (meta.patterns[name] as string) : meta.pattern
}

/**
 * Creates the `__metadata__` of a mask file.
 *
 * @param columns true column counts of the linears whose rows end inside a byte
 */
export function formatMetadata(
  kind: MaskKind,
  meta: MaskMeta,
  columns: ReadonlyMap<string, number>,
): Record<string, string> {
  const metadata: Record<string, string> = {
    format: FORMATS[kind],
    format_version: FORMAT_VERSION,
    base_sha256: meta.baseSha256,
    method: meta.method,
    pattern: meta.pattern,
    scope: meta.scope,
    domains: JSON.stringify(meta.domains),
    created: meta.created,
  }
  const patterns = Object.entries(meta.patterns)
  if (patterns.length) metadata['patterns'] = stringifySorted(patterns)
  if (meta.parent !== null) metadata['parent'] = meta.parent
  if (columns.size) metadata['columns'] = stringifySorted([...columns])
  return metadata
}

/** The parsed metadata of a mask file. */
export interface ParsedMetadata {
  kind: MaskKind
  meta: MaskMeta
  columns: ReadonlyMap<string, number>
}

/**
 * Parses what {@link formatMetadata} wrote.
 *
 * @throws AppError `mask_invalid` naming the key
 */
export function parseMetadata(metadata: Readonly<Record<string, string>>): ParsedMetadata {
  const field = (key: string): string => {
    const value = metadata[key]
    if (value === undefined) throw maskInvalid(`metadata '${key}' is missing`)
    return value
  }
  const kind = parseKind(field('format'))
  const version = field('format_version')
  if (version !== FORMAT_VERSION) {
    throw maskInvalid(`metadata 'format_version' is '${version}', expected '${FORMAT_VERSION}'`)
  }
  const scope = field('scope')
  if (scope !== 'row' && scope !== 'matrix')
    throw maskInvalid(`metadata 'scope' is '${scope}', expected 'row' or 'matrix'`)
  const pattern = field('pattern')
  asMaskInvalid(() => parsePattern(pattern))
  const hash = (key: string, value: string): string => {
    if (!/^[0-9a-f]{64}$/.test(value))
      throw maskInvalid(`metadata '${key}' is not a SHA-256 in lower-case hex`)
    return value
  }
  const parent = metadata['parent']
  const meta = {
    method: field('method'),
    pattern,
    scope,
    patterns: parsePatterns(metadata['patterns']),
    domains: parseDomains(field('domains')),
    parent: parent === undefined ? null : hash('parent', parent),
    created: field('created'),
    baseSha256: hash('base_sha256', field('base_sha256')),
  } as const
  return { kind, meta, columns: parseColumns(metadata['columns']) }
}

function parseKind(format: string): MaskKind {
  if (format === FORMATS.mask) return 'mask'
  if (format === FORMATS.weights) return 'weights'
  throw maskInvalid(`metadata 'format' is '${format}', expected '${FORMATS.mask}' or '${FORMATS.weights}'`)
}

function parseDomains(text: string): string[] {
  const value = parseJson('domains', text)
  if (!Array.isArray(value) || !value.every((domain) => typeof domain === 'string')) {
    throw maskInvalid("metadata 'domains' is not a JSON array of names")
  }
  return value
}

function parsePatterns(text: string | undefined): Record<string, string> {
  const patterns: [string, string][] = []
  for (const [name, pattern] of parseEntries('patterns', text)) {
    if (typeof pattern !== 'string') throw maskInvalid(`metadata 'patterns' of '${name}' is not a pattern`)
    if (pattern !== DENSE) asMaskInvalid(() => parsePattern(pattern), name)
    patterns.push([name, pattern])
  }
  return Object.fromEntries(patterns)
}

function parseColumns(text: string | undefined): ReadonlyMap<string, number> {
  const columns = new Map<string, number>()
  for (const [name, cols] of parseEntries('columns', text)) {
    if (!Number.isSafeInteger(cols) || (cols as number) < 1)
      throw maskInvalid(`metadata 'columns' of '${name}' is not a count`)
    columns.set(name, cols as number)
  }
  return columns
}

/** Parses a JSON object into its entries; none where the text is absent. */
function parseEntries(key: string, text: string | undefined): [string, unknown][] {
  if (text === undefined) return []
  const value = parseJson(key, text)
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return Object.entries(value)
  throw maskInvalid(`metadata '${key}' is not a JSON object`)
}

function parseJson(key: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw maskInvalid(`metadata '${key}' is not JSON`, cause)
  }
}

/** Serialises a JSON object with sorted names, so that equal content gives equal bytes. */
function stringifySorted(entries: readonly (readonly [string, unknown])[]): string {
  return JSON.stringify(Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1))))
}
