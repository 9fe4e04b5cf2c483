/** The losses of nodes, clients and keys again, where nodes run the sparse engine. */
import { describe } from 'vitest'
import { addon } from '../support/backends.ts'
import { prepareFaults, testNothingIsLeft } from '../support/faults.ts'
import { testLosses } from './losses.ts'

describe.skipIf(addon === null)('the sparse engine, left out where no cargo builds it', () => {
  const faults = prepareFaults({ backend: 'sparse' })
  testLosses(faults)
  testNothingIsLeft(faults)
})
