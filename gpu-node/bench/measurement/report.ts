import { arch, availableParallelism, loadavg, platform, totalmem } from 'node:os'
import { processorName } from '@copal/gpu-node/platform/processor-name.ts'
import type { Spread } from '@copal/gpu-node/platform/spread.ts'

/** Describes the machine and its load, which every result needs to be understood. */
export function machineLine(): string {
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`
  const load = loadavg()[0]?.toFixed(1)
  return `${processorName()}, ${availableParallelism()} cores, ${memory}, ${platform()}/${arch()}, Node ${process.version}, load ${load}`
}

/** Formats a spread as `1234.5 (1200.0–1300.0, n=9) unit`. */
export function formatSpread({ median, min, max, count }: Spread, unit: string, digits = 1): string {
  return `${median.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)}, n=${count}) ${unit}`
}

/** Formats one line of a report. */
export function line(what: string, figure: string): string {
  return `${what.padEnd(44)} ${figure}`
}
