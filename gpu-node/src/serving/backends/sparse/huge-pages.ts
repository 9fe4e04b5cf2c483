import { readFileSync } from 'node:fs'
import type { Log } from '../../../platform/log.ts'

/** Where Linux says when it gives huge pages: `always [madvise] never`, the chosen one in brackets. */
const SETTING = '/sys/kernel/mm/transparent_hugepage/enabled'

/**
 * Warns where Linux never gives huge pages, in which the engine keeps weights: decoding is slower without them. Says nothing on
 * systems that do not have the setting.
 *
 * @param setting path of the setting; replaced in tests
 */
export function warnWithoutHugePages(log: Pick<Log, 'warn'>, setting = SETTING): void {
  let chosen: string
  try {
    chosen = readFileSync(setting, 'utf8')
  } catch {
    return
  }
  if (!chosen.includes('[never]')) return
  log.warn('this machine gives no huge pages, without which decoding is slower. Set them to madvise', {
    setting,
  })
}
