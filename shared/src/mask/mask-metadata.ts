import { asMaskInvalid, maskInvalid } from './mask-error.ts'
import { parsePattern, type MaskScope } from './sparsity-pattern.ts'

/** `mask`: which weights survive. `weights`: also the values that they then have. */
export type MaskKind = 'mask' | 'weights'

const FORMATS: Readonly<Record<MaskKind, string>> = { mask: 'copal-mask', weights: 'copal-weights' }
const FORMAT_VERSION = '1'

/** In `patterns`: the linear keeps all of its weights, and the mask holds no tensor for it. */
export const DENSE = 'dense'

/** What a mask file says about itself. */
export interface MaskMeta {
  method: string
  /** `0.5`, `2:4`. */
  pattern: string
  /** Whether rows or whole matrices keep exact counts; without meaning for n:m. */
  scope: MaskScope
  /** Patterns of the linears that have another than `pattern`, or {@link DENSE}, by the name of the weight. */
  patterns: Readonly<Record<string, string>>
  /** Domains whose statistics chose it. */
  domains: readonly string[]
  /** SHA-256 of the mask file it succeeds. */
  parent: string | null
  /** ISO 8601. */
  created: string
  /** SHA-256 over the dense linear weights it was chosen from. */
  baseSha256: string
}

/** The pattern of one linear, which may be {@link DENSE}. */
export function linearPattern(meta: Pick<MaskMeta, 'pattern' | 'patterns'>, name: string): string {
  return Object.hasOwn(meta.patterns, name) ? (meta.patterns[name] as string) : meta.pattern
}

/** The `__metadata__` of a mask file; `columns`: the true columns of the linears whose rows end inside a byte. */
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

/** Everything that the metadata of a mask file say. */
export interface ParsedMetadata {
  kind: MaskKind
  meta: MaskMeta
  columns: ReadonlyMap<string, number>
}

/**
 * Reads what {@link formatMetadata} wrote.
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
    throw maskInvalid(`metadata 'format_version' is '${version}', this copal reads '${FORMAT_VERSION}'`)
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

/** A JSON object's entries; none without a text. */
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

/** A JSON object with its names in order, so that equal content gives equal bytes. */
function stringifySorted(entries: readonly (readonly [string, unknown])[]): string {
  return JSON.stringify(Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1))))
}
