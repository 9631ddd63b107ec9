"""The warehouse: records every sale, once, before anybody hears of it."""
