/**
 * The name under which all further domains are counted together; no domain can have it. Requests may name any domain, and each
 * would be a row for ever.
 */
export const OTHER_DOMAINS = '(other)'
