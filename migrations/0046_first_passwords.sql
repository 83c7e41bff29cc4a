-- The tenant whose administrator chose the password, until its owner replaces it. It opens no other tenant: that administrator may know it.
alter table users add column password_made_in text;
