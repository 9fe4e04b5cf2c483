import { expect, test } from 'vitest'
import { updateState, type UpdateState } from '@copal/shared/wire/admin.ts'
import {
  hasEnded,
  nextState,
  type UpdateEvent,
} from '../../../../gateway/src/adaptation/updates/update-states.ts'

const EVENTS = [
  'collected',
  'calibrated',
  'unconfirmed',
  'canary_started',
  'approved',
  'reselected',
  'forced',
  'promoted',
  'rolled_back',
  'reinstated',
  'failed',
  'cancelled',
] as const satisfies UpdateEvent[]

/** All pairs of state and event that move an update. */
const MOVES: [UpdateState, UpdateEvent, UpdateState][] = [
  ['collecting', 'collected', 'calibrating'],
  ['collecting', 'failed', 'failed'],
  ['collecting', 'cancelled', 'cancelled'],
  ['calibrating', 'calibrated', 'evaluating'],
  ['calibrating', 'failed', 'failed'],
  ['calibrating', 'cancelled', 'cancelled'],
  ['evaluating', 'unconfirmed', 'confirming'],
  ['evaluating', 'canary_started', 'canary'],
  ['evaluating', 'approved', 'promoting'],
  ['evaluating', 'reselected', 'calibrating'],
  ['evaluating', 'failed', 'failed'],
  ['evaluating', 'cancelled', 'cancelled'],
  ['confirming', 'canary_started', 'canary'],
  ['confirming', 'approved', 'promoting'],
  ['confirming', 'failed', 'failed'],
  ['confirming', 'cancelled', 'cancelled'],
  ['canary', 'approved', 'promoting'],
  ['canary', 'rolled_back', 'rolled_back'],
  ['canary', 'failed', 'failed'],
  ['canary', 'cancelled', 'cancelled'],
  ['failed', 'forced', 'promoting'],
  ['promoting', 'promoted', 'promoted'],
  ['promoting', 'failed', 'failed'],
  ['promoting', 'cancelled', 'cancelled'],
  ['promoting', 'rolled_back', 'rolled_back'],
  ['promoted', 'rolled_back', 'rolled_back'],
  ['rolled_back', 'reinstated', 'promoted'],
]

test('every event in every state moves the update as listed, or not at all', () => {
  for (const state of updateState.options) {
    for (const event of EVENTS) {
      const expected = MOVES.find(([from, by]) => from === state && by === event)?.[2]
      expect([state, event, nextState(state, event)]).toEqual([state, event, expected])
    }
  }
})

test('every path ends, and an ended update works again only when an operator forces it', () => {
  const reach = (state: UpdateState, seen = new Set<UpdateState>()): Set<UpdateState> => {
    if (seen.has(state)) return seen
    seen.add(state)
    for (const event of EVENTS.filter((name) => name !== 'forced')) {
      const to = nextState(state, event)
      if (to !== undefined) reach(to, seen)
    }
    return seen
  }
  for (const state of updateState.options) {
    expect([...reach(state)].some(hasEnded)).toBe(true)
    expect(hasEnded(state) && ![...reach(state)].every(hasEnded)).toBe(false)
  }
})
