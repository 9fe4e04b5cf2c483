import { cpus } from 'node:os'

/** Returns the processor's name, such as `AMD EPYC 9B14`, or the architecture if the system does not report it. */
export function processorName(): string {
  return cpus()[0]?.model.replace(/\s+/g, ' ').trim() || process.arch
}
