import { sequenceOf } from './request.ts'
import type { EnginePolicy } from './policy.ts'
import { kvTokensUsed, runningRequests, type EngineState } from './state.ts'

/**
 * Checks what must hold between any two transitions; tests call it after each step.
 *
 * @throws Error that names the first violated invariant
 */
export function checkInvariants(state: EngineState, policy: EnginePolicy): void {
  const used = kvTokensUsed(state)
  demand(used <= policy.kvTokens, `${used} key/value tokens are taken of ${policy.kvTokens}`)
  const running = runningRequests(state).length
  demand(running <= policy.maxRunning, `${running} requests run, at most ${policy.maxRunning} may`)
  let lastOrder = 0
  const sequences = new Set<number>()
  for (const drops of state.drops.values()) {
    for (const drop of drops) {
      demand(!sequences.has(drop.sequence), `sequence ${drop.sequence} is to be dropped twice`)
      sequences.add(drop.sequence)
    }
  }
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
    demand(sequence.fed <= sequence.held, `${name} holds ${sequence.held} tokens and fed ${sequence.fed}`)
    demand(sequence.held <= policy.contextLength, `${name} holds more than the context`)
    if (request.status.kind === 'decode') {
      demand(request.goal.kind === 'generate', `${name} scores and cannot decode`)
      demand(sequence.fed === request.tokens.length - 1, `${name} decodes with ${sequence.fed} tokens fed`)
    }
  }
}

function demand(condition: boolean, violation: string): void {
  if (!condition) throw new Error(`engine invariant violated: ${violation}`)
}
