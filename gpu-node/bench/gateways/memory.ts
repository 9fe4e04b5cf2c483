import { setTimeout as sleep } from 'node:timers/promises'
import { line } from '../measurement/report.ts'
import type { Contender } from './contenders.ts'
import { openLoad } from './load.ts'
import { usageOf } from './processes.ts'

const PARTS = 10
/** One request in this many is a stream. */
const REQUESTS_PER_STREAM = 10
/** Pause in which receipts are settled and garbage may be collected. */
const REST_MS = 2_000

/** Sends many requests to one gateway and prints the memory of its processes after each tenth of them. */
export async function watchMemory(
  gateway: Contender,
  requests: number,
  connections: number,
  print: (line: string) => void,
): Promise<void> {
  print(`\nmemory of ${gateway.name} over ${requests} requests, one in ${REQUESTS_PER_STREAM} a stream`)
  const json = openLoad(gateway.request(false), connections)
  const streams = openLoad(gateway.request(true), connections)
  const report = (sent: number) => {
    const bytes = usageOf(gateway.pids)?.residentBytes
    print(
      line(
        `after ${sent}`,
        bytes === undefined ? 'unknown on this platform' : `${(bytes / 2 ** 20).toFixed(0)} MiB`,
      ),
    )
  }
  try {
    report(0)
    for (let part = 1; part <= PARTS; part += 1) {
      const size = Math.round((requests * part) / PARTS) - Math.round((requests * (part - 1)) / PARTS)
      const streamed = Math.round(size / REQUESTS_PER_STREAM)
      const samples = [await json.count(size - streamed), await streams.count(streamed)]
      const failed = samples.find(({ failure }) => failure !== undefined)
      if (failed) throw new Error(`a request failed: ${failed.failure}`)
      await sleep(REST_MS)
      report(Math.round((requests * part) / PARTS))
    }
  } finally {
    await Promise.all([json.close(), streams.close()])
  }
}
