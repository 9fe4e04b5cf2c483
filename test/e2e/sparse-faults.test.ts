/** Losses and herds on nodes that run the sparse engine. */
import { describe } from 'vitest'
import { addon } from '../support/engine/backends.ts'
import { prepareFaultFleet, testNoRequestIsLeft } from '../support/faults/fault-fleet.ts'
import { testHerds } from './floods.ts'
import { testLosses } from './losses.ts'

describe.skipIf(addon === null)('the sparse engine, skipped where there is no cargo to build it', () => {
  const faults = prepareFaultFleet({ backend: 'sparse' })
  testLosses(faults)
  testHerds(faults, true)
  testNoRequestIsLeft(faults)
})
