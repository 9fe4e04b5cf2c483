import type { NodeEntry } from '@copal/shared/wire/admin.ts'
import { expect, test } from 'vitest'
import { describeNode } from '../../../../infra/local/start/node-line.ts'

const GPU = 'NVIDIA H100, vulkan, 212 tokens/s for one stream, gpu-bf16'
const entry = (node: Partial<NodeEntry>) => ({ alive: true, device: GPU, ...node }) as NodeEntry
const clientOf = (...nodes: NodeEntry[]) => ({ admin: () => Promise.resolve({ data: nodes }) as never })

test('a line says the device, its speed and what it holds', async () => {
  const memory = { budget_bytes: 40e9, free_bytes: 30e9, unheld: [] }
  expect(await describeNode(clientOf(entry({ weight_memory: memory })))).toBe(
    `${GPU}; weights take 10 GB of 40 GB`,
  )
  expect(await describeNode(clientOf(entry({})))).toBe(GPU)
})

test('an unknown device, and a gateway that does not answer, give no line', async () => {
  expect(await describeNode(clientOf(entry({ alive: false }), entry({ device: null })))).toBeUndefined()
  expect(await describeNode({ admin: () => Promise.reject(new Error('down')) })).toBeUndefined()
})
