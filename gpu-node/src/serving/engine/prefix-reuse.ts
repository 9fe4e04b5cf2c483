import { PAGE_TOKENS, type WeightSet } from '../contract/backend.ts'
import { indexPrefix } from './prefix-names.ts'
import { pageKeys } from './page-keys.ts'
import { findPrefix, cachePage } from './page-pool.ts'
import type { Request, Sequence } from './engine-request.ts'
import type { EngineState } from './engine-state.ts'

/**
 * Returns the cached pages that a request need not compute on `weights`: full pages of its partition, from the first
 * token on. The last token is never among them, because its logits are needed. Embeddings and scorings need output of
 * every token, so they share nothing.
 */
export function cachedPages(state: EngineState, request: Request, weights: WeightSet): number[] {
  const keys = keysOf(request, weights, request.tokens.length - 1)
  return findPrefix(state.pages, weights, keys)
}

/** Returns the key of the page after the first `shared` pages of a request; undefined where it can share no more. */
export function nextSharedKey(request: Request, weights: WeightSet, shared: number): string | undefined {
  return keysOf(request, weights, request.tokens.length - 1)[shared]
}

/** Returns the keys of the pages that a request fills when it prefills its tokens from `from` on. */
export function keysToFill(request: Request, weights: WeightSet, from: number): readonly string[] {
  return keysOf(request, weights, request.tokens.length).slice(Math.floor(from / PAGE_TOKENS))
}

/** Caches the pages that a committed step has filled: those of tokens `from … to - 1`. */
export function cacheFilledPages(
  state: EngineState,
  request: Request,
  { weights, pages }: Sequence,
  from: number,
  to: number,
): void {
  const last = Math.floor(to / PAGE_TOKENS)
  const first = Math.floor(from / PAGE_TOKENS)
  if (first === last) return
  const keys = keysOf(request, weights, to)
  for (const [index, key] of keys.entries())
    if (index >= first) cachePage(state.pages, weights, key, pages[index] as number)
}

/** Adds the named prefixes of a prompt to the index once the whole prompt is prefilled. */
export function indexFilledPrefixes(state: EngineState, request: Request, { weights }: Sequence): void {
  const { goal, promptTokens } = request
  if (goal.kind !== 'generate') return
  for (const { name, tokens } of goal.prefixes) {
    const key = keysOf(request, weights, Math.min(tokens, promptTokens)).at(-1)
    if (key !== undefined) indexPrefix(state.prefixIndex, state.pages, name, { weights, key })
  }
}

/** Returns the keys of the full pages of a request's first `tokens` tokens; none where it shares nothing. */
function keysOf(request: Request, weights: WeightSet, tokens: number): readonly string[] {
  const { goal } = request
  if (goal.kind !== 'generate' || goal.partition === null || !weights.paged) return []
  const count = Math.floor(tokens / PAGE_TOKENS)
  if (request.pageKeys.length < count)
    request.pageKeys = pageKeys(goal.partition, request.tokens, count, request.pageKeys)
  return request.pageKeys.slice(0, count)
}
