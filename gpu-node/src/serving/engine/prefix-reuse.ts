import { PAGE_TOKENS, type WeightSet } from '../contract/backend.ts'
import { indexPrefix } from './prefix-names.ts'
import { pageKeys } from './page-keys.ts'
import { findPrefix, rememberPage } from './page-pool.ts'
import type { Request, Sequence } from './engine-request.ts'
import type { EngineState } from './engine-state.ts'

/**
 * The pages that a request need not compute on `weights`: full ones of its partition that are remembered from the
 * first token on. Its last token is never among them: its logits are wanted. Embeddings and scorings want something of every
 * token, so they share nothing.
 */
export function cachedPages(state: EngineState, request: Request, weights: WeightSet): number[] {
  const keys = keysOf(request, weights, request.tokens.length - 1)
  return findPrefix(state.pages, weights, keys)
}

/** The key of the page that a request needs next when it shares its first `shared` pages; undefined where it shares no more. */
export function nextSharedKey(request: Request, weights: WeightSet, shared: number): string | undefined {
  return keysOf(request, weights, request.tokens.length - 1)[shared]
}

/** Keys of the pages that a request fills when it feeds its tokens from `from` on. */
export function keysToFill(request: Request, weights: WeightSet, from: number): readonly string[] {
  return keysOf(request, weights, request.tokens.length).slice(Math.floor(from / PAGE_TOKENS))
}

/** Remembers the pages that a committed step has filled: those of tokens `from … to - 1`. */
export function rememberFilled(
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
    if (index >= first) rememberPage(state.pages, weights, key, pages[index] as number)
}

/** Takes note of what the beginnings of a prompt are called that was fed in whole. */
export function indexFilledPrefixes(state: EngineState, request: Request, { weights }: Sequence): void {
  const { goal, promptTokens } = request
  if (goal.kind !== 'generate') return
  for (const { name, tokens } of goal.prefixes) {
    const key = keysOf(request, weights, Math.min(tokens, promptTokens)).at(-1)
    if (key !== undefined) indexPrefix(state.prefixIndex, state.pages, name, { weights, key })
  }
}

/** Keys of the full pages of a request's first `tokens` tokens; none where it shares nothing. */
function keysOf(request: Request, weights: WeightSet, tokens: number): readonly string[] {
  const { goal } = request
  if (goal.kind !== 'generate' || goal.partition === null || !weights.paged) return []
  const count = Math.floor(tokens / PAGE_TOKENS)
  if (request.pageKeys.length < count)
    request.pageKeys = pageKeys(goal.partition, request.tokens, count, request.pageKeys)
  return request.pageKeys.slice(0, count)
}
