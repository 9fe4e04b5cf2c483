/** The losses of nodes, clients and keys again, and herds, where nodes run the sparse engine. */
import { describe } from 'vitest'
import { addon } from '../support/engine/backends.ts'
import { prepareFaultFleet, testNoRequestIsLeft } from '../support/faults/fault-fleet.ts'
import { testHerds } from './floods.ts'
import { testLosses } from './losses.ts'

describe.skipIf(addon === null)('the sparse engine, left out where no cargo builds it', () => {
  const faults = prepareFaultFleet({ backend: 'sparse' })
  testLosses(faults)
  testHerds(faults, true)
  testNoRequestIsLeft(faults)
})
