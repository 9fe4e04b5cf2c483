import { PAGE_TOKENS } from '../../../gpu-node/src/serving/contract/backend.ts'
import { holdersOf, pagesFor } from '../../../gpu-node/src/serving/engine/page-pool.ts'
import { sequenceOf } from '../../../gpu-node/src/serving/engine/engine-request.ts'
import { scorePages } from '../../../gpu-node/src/serving/engine/scoring-share.ts'
import type { EnginePolicy } from '../../../gpu-node/src/serving/engine/engine-policy.ts'
import {
  kvTokensUsed,
  runningRequests,
  type EngineState,
} from '../../../gpu-node/src/serving/engine/engine-state.ts'

/**
 * Checks what must hold between any two transitions; tests call it after each step.
 *
 * @throws Error that names the first violated invariant
 */
export function checkInvariants(state: EngineState, policy: EnginePolicy): void {
  const used = kvTokensUsed(state)
  demand(used <= policy.kvTokens, `${used} key/value tokens are taken of ${policy.kvTokens}`)
  const running = runningRequests(state).length
  const own = pagesFor(policy.scoreKvTokens)
  const left = state.pages.free.length + state.pages.idle.size + scorePages(state)
  demand(left >= own, `requests left ${left} pages to scoring, which has ${own} of its own`)
  demand(running <= policy.maxRunning, `${running} requests run, at most ${policy.maxRunning} may`)
  let lastOrder = 0
  const sequences = new Set<number>()
  for (const drops of state.drops.values()) {
    for (const sequence of drops) {
      demand(!sequences.has(sequence), `sequence ${sequence} is to be dropped twice`)
      sequences.add(sequence)
    }
  }
  checkPages(state)
  for (const request of state.requests) {
    const name = `request ${request.order}`
    demand(request.order > lastOrder, `${name} is out of order`)
    lastOrder = request.order
    demand(request.status.kind !== 'ended', `${name} has ended but is still listed`)
    demand(request.tokens.length >= request.promptTokens, `${name} lost part of its prompt`)
    demand(request.tokens.length <= policy.contextLength, `${name} is longer than the context`)
    const sequence = sequenceOf(request)
    if (!sequence) continue
    demand(!sequences.has(sequence.id), `sequence ${sequence.id} is held twice or held and dropped`)
    sequences.add(sequence.id)
    const { fed, pages } = sequence
    demand(fed <= pages.length * PAGE_TOKENS, `${name} has ${pages.length} pages and fed ${fed} tokens`)
    demand(pages.length <= pagesFor(policy.contextLength), `${name} has more pages than the context`)
    if (request.status.kind === 'decode') {
      demand(request.goal.kind === 'generate', `${name} scores and cannot decode`)
      demand(sequence.fed === request.tokens.length - 1, `${name} decodes with ${sequence.fed} tokens fed`)
    }
  }
}

/**
 * Every page is free, idle or held by as many as it says; what is still written is held by one and cached by
 * nobody. Looks at no page that is free: there may be very many.
 */
function checkPages({ requests, abandoned, pages: pool }: EngineState): void {
  const holders = new Map<number, number>()
  const sequences = [...requests.map(sequenceOf).filter((sequence) => sequence !== undefined), ...abandoned]
  for (const { pages } of sequences) for (const page of pages) holders.set(page, (holders.get(page) ?? 0) + 1)
  for (const [page, count] of holders)
    demand(holdersOf(pool, page) === count, `page ${page} is held by ${count}`)
  for (const { id, fed, pages } of sequences) {
    for (const page of pages.slice(Math.floor(fed / PAGE_TOKENS))) {
      demand(holders.get(page) === 1, `sequence ${id} writes page ${page}, which it shares`)
      demand(!pool.keys.has(page), `sequence ${id} writes page ${page}, which is cached`)
    }
  }
  for (const page of pool.idle) {
    demand(!holders.has(page) && holdersOf(pool, page) === 0, `page ${page} is idle and held`)
    demand(pool.keys.has(page), `page ${page} is idle and not cached`)
  }
  demand(
    pool.free.length + pool.idle.size + holders.size === pool.total,
    `of ${pool.total} pages ${holders.size} are held, ${pool.idle.size} idle and ${pool.free.length} free`,
  )
  let cached = 0
  for (const [weights, known] of pool.cached) {
    for (const [key, page] of known) {
      const place = pool.keys.get(page)
      demand(place?.weights === weights && place.key === key, `page ${page} is cached elsewhere`)
      demand(holders.has(page) || pool.idle.has(page), `page ${page} is cached and free`)
      cached += 1
    }
  }
  demand(cached === pool.keys.size, 'a page is cached under no key')
}

function demand(condition: boolean, violation: string): void {
  if (!condition) throw new Error(`engine invariant violated: ${violation}`)
}
