/** The owner of a domain, in words. `''` stands for all tenants together. */

/** The possible owners: all tenants together, and each tenant. The present owner stays in the list. */
export function ownerOptions(
  tenants: readonly string[],
  present: string,
): { value: string; label: string }[] {
  const names = new Set([...tenants, ...(present === '' ? [] : [present])])
  return [
    { value: '', label: 'All tenants' },
    ...[...names].toSorted().map((name) => ({ value: name, label: `Only tenant ${name}` })),
  ]
}

/** The effects of a change of the owner, told to the operator before. */
export function ownerConsequences(domain: string, owner: string, before: string): string[] {
  if (owner === before)
    return owner === ''
      ? [`All tenants share ${domain}: sampled texts of each of them are kept in it.`]
      : [`Only texts of ${owner} are kept in ${domain}, and those that you import.`]
  return owner === ''
    ? [
        `Sampled texts of every tenant are kept in ${domain} from now on, and masks may be calibrated on them.`,
        `The tenant ${before} no longer sees the figures of ${domain}. Kept texts stay. Change the owner again to return.`,
      ]
    : [
        `From now on only sampled texts of ${owner} are kept in ${domain}, and those that you import. Requests of other tenants that name it are answered and counted as if they named no domain.`,
        `Administrators of ${owner} see the figures of ${domain}. Texts that are kept now stay, also those of other tenants. Change the owner again to return.`,
      ]
}
