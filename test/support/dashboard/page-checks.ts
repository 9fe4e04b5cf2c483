import { join } from 'node:path'
import axe from 'axe-core'
import type { Page } from 'playwright-core'

/** The rules of axe that look at colors. */
export const COLOR_RULES = ['color-contrast', 'link-in-text-block']

/** Returns what stands beyond the right edge of the page, if that lets it scroll sideways. */
export function tooWide(tab: Page): Promise<string[]> {
  return tab.evaluate(`document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('main *')]
    .filter((element) => element.getBoundingClientRect().right > innerWidth && element.children.length === 0)
    .map((element) => element.outerHTML.slice(0, 200))`)
}

/** Returns cells of tables and figures whose text stands over what is beside them. */
export function overflowingCells(tab: Page): Promise<string[]> {
  return tab.evaluate(`[...document.querySelectorAll('td:not(.lineage-cell), dd')]
    .filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth + 1)
    .map(({ outerHTML }) => outerHTML.slice(0, 200))`)
}

/** Returns the serious findings of axe, by default of all of its rules. */
export async function seriousFindings(tab: Page, rules?: readonly string[]): Promise<string[]> {
  if (!(await tab.evaluate("'axe' in window"))) await tab.evaluate(axe.source)
  const options = JSON.stringify(rules ? { runOnly: { type: 'rule', values: rules } } : {})
  return tab.evaluate(`axe.run(${options}).then(({ violations }) => violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => id + ': ' + nodes[0].html))`)
}

/** Draws a page in the folder that SCREENSHOTS names, if it does. */
export async function draw(tab: Page, state: string, path: string): Promise<void> {
  const folder = process.env['SCREENSHOTS']
  if (!folder) return
  const name = path.replace(/^\/dashboard\/?/, '').replaceAll('/', '-') || 'overview'
  await tab.screenshot({ path: join(folder, `${name}-${state}.png`), fullPage: true })
}
